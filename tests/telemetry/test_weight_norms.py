"""Norms and effective steps of whole weights."""

import pytest
import torch

from tangential import AdamP
from tangential.telemetry import directions, effective_step, matrices, mean_norm
from tangential.telemetry.weight_norms import Movement


def test_only_weights_with_more_than_one_dimension_count():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(4, 3))
    assert [tuple(w.shape) for w in matrices(net.parameters())] == [(2, 1, 3, 3), (3, 4)]


def test_norm_is_the_mean_over_weights_not_over_elements():
    weights = [torch.full((2, 2), 1.0), torch.full((1, 1), 4.0)]
    assert mean_norm(weights).item() == (2.0 + 4.0) / 2


def test_step_along_the_weight_itself_is_no_effective_step():
    w = torch.randn(4, 3, dtype=torch.float64)
    step = effective_step(directions([w]), directions([7.0 * w]))
    assert step < 1e-15  # a few roundings of unit vectors in float64


def test_quarter_turn_moves_the_direction_by_root_two_whatever_the_lengths():
    before, after = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.01]])
    assert effective_step(directions([before]), directions([after])).item() == pytest.approx(2**0.5, rel=1e-7)


def test_orthogonal_step_has_the_length_that_geometry_gives():
    w, step = torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, -0.4]], dtype=torch.float64)
    angle = torch.atan2(torch.tensor(0.4, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
    expected = 2 * torch.sin(angle / 2)
    assert effective_step(directions([w]), directions([w + step])).item() == pytest.approx(expected.item(), rel=1e-12)


def test_zero_weight_has_no_direction_and_makes_no_nan():
    zero = torch.zeros(2, 2)
    assert effective_step(directions([zero]), directions([zero])).item() == 0.0


def test_measuring_changes_no_weight():
    w = torch.nn.Parameter(torch.randn(3, 3))
    before = w.detach().clone()
    directions(matrices([w]))
    mean_norm(matrices([w]))
    assert torch.equal(w, before)


def test_measuring_nothing_is_refused():
    with pytest.raises(ValueError, match="no weight"):
        mean_norm([])
    with pytest.raises(ValueError, match="0 directions"):
        effective_step([], [])
    with pytest.raises(ValueError, match="1 directions before the step, 2 after"):
        effective_step([torch.ones(1)], [torch.ones(1), torch.ones(1)])


@pytest.mark.parametrize("make", [lambda p: AdamP(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)])
def test_movement_is_the_effective_step_of_every_step(make):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    optimizer, weights, movement = make(net.parameters()), matrices(net.parameters()), Movement()
    movement.before(weights)
    for _ in range(4):
        net.zero_grad()
        net(torch.randn(5, 1, 4, 4)).square().mean().backward()
        before = directions(weights)
        optimizer.step()
        expected = effective_step(before, directions(weights))
        assert float(movement.after(weights)) / 2 == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("pair", [(1, 1), (1, 0), (0, 1), (0, 0), (1, 7), (1e-15, 1e-15)])
def test_movement_agrees_with_directions_at_the_edges(pair, dtype):
    torch.manual_seed(0)
    old, new = (scale * torch.randn(3, 4, dtype=dtype) for scale in pair)
    movement = Movement()
    movement.before([old])
    found = movement.after([new])
    wide = torch.promote_types(dtype, torch.float64)
    units = [w.to(wide) / w.to(wide).norm() if w.any() else w.to(wide) for w in (old, new)]
    assert float(found) == pytest.approx(float((units[1] - units[0]).norm()), rel=1e-5, abs=1e-6)

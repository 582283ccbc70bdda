"""Weights and gradients of every kind: nothing becomes NaN that was not, and what cannot be treated is left alone."""

import math

import pytest
import torch
from torch import nn

from support.radial_bases import ROWS, give_gradients, pair
from support.weights import SHAPES, weights
from support.weights import give_gradients as give_any_gradients
from tangential import Blocks, Radial
from tangential.radial import (
    Brake,
    CautiousDecay,
    CorrectedDecay,
    Fix,
    OrthogonalGradient,
    Project,
    RecordBrake,
    Rotate,
    SphericalCaution,
    repair,
)
from tangential.radial.parts import Part

POLICIES = {
    "project": Project(),
    "brake": Brake(),
    "record brake": RecordBrake(),
    "fix": Fix(),
    "fix, given": Fix(radius=2.0),
    "rotate": Rotate(),
    "rotate, centered": Rotate(center=True),
    "orthogonal gradient": OrthogonalGradient(),
    "spherical caution": SphericalCaution(),
    "cautious decay": CautiousDecay(),
    "corrected decay": CorrectedDecay(max_lr=0.02),
}
every_policy = pytest.mark.parametrize("policy", POLICIES)
HALF = [torch.bfloat16, torch.float16]


def optimizer_of(params, policy, invariances=None, **settings):
    base = torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)
    return Radial(base, POLICIES[policy], Blocks() if invariances is None else invariances, **settings)


def gap(a, b):
    return (a.detach().double() - b.detach().double()).abs().max().item()


@every_policy
def test_zero_rows_step_and_stay_finite(policy):
    w = nn.Parameter(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    optimizer = optimizer_of([w], policy)
    for step in range(3):
        w.grad = torch.tensor([[1.0, -2.0], [2.0, -1.0]]) * (step + 1)
        optimizer.step()
    assert w.isfinite().all() and (w[0] != 0).any()


@every_policy
def test_zero_gradients_leave_everything_finite(policy):
    w, _ = pair(torch.float32)
    optimizer = optimizer_of([w], policy)
    for _ in range(3):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    assert w.isfinite().all()


@every_policy
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_reaches_its_own_weight_only(policy, bad):
    w, v = pair()
    optimizer = optimizer_of([w, v], policy, {w: ROWS, v: ROWS})
    give_gradients(w, v, 0)
    w.grad[2, 3] = bad
    optimizer.step()
    assert v.isfinite().all() and not w[2].isfinite().all()


@every_policy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_radial_gradient_blows_nothing_up(policy, dtype):
    w, _ = pair(dtype)
    optimizer = optimizer_of([w], policy)
    norms = w.detach().norm(dim=1)
    for _ in range(5):
        w.grad = w.detach() * 3
        optimizer.step()
    assert w.isfinite().all() and (w.detach().norm(dim=1) < 2.5 * norms.max()).all()


@every_policy
def test_every_rank_and_missing_gradients(policy):
    params = weights(torch.float32)
    optimizer = optimizer_of(params, policy)
    twins = weights(torch.float32)
    base = torch.optim.AdamW(twins, lr=0.01, weight_decay=0.1)
    for step in range(3):
        for each in (params, twins):
            give_any_gradients(each, step)
            each[step].grad = None
        optimizer.step()
        base.step()
    assert all(p.isfinite().all() for p in params)
    assert all(torch.equal(p, q) for p, q, shape in zip(params, twins, SHAPES, strict=True) if len(shape) < 2)


@every_policy
def test_empty_weights_are_left_alone(policy):
    w, v = pair(torch.float32)
    empty = [nn.Parameter(torch.empty(s)) for s in ((0, 3), (3, 0), (0,))]
    optimizer = optimizer_of([w, v, *empty], policy)
    for p in (w, v, *empty):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert w.isfinite().all() and [tuple(p.shape) for p in empty] == [(0, 3), (3, 0), (0,)]


@every_policy
@pytest.mark.parametrize("layout", ["channels last", "transposed", "gaps"])
def test_layouts_give_the_same_weights(policy, layout):
    generator = torch.Generator().manual_seed(0)
    plain = nn.Parameter(torch.randn(4, 6, 2, 2, generator=generator, dtype=torch.float64))
    other = {
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        "gaps": lambda x: torch.zeros(4, 6, 2, 4, dtype=x.dtype)[..., ::2].copy_(x),
    }[layout](plain.detach().clone())
    other.requires_grad_()
    a, b = optimizer_of([plain], policy), optimizer_of([other], policy)
    for step in range(3):
        for p in (plain, other):
            p.grad = torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(1 + step), dtype=torch.float64)
        a.step()
        b.step()
    assert gap(plain, other) < 1e-12


@every_policy
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_follows_float32_within_its_rounding(policy, dtype):
    (w, v), (w2, v2) = pair(dtype), pair(dtype)
    wide = [x.detach().float().requires_grad_() for x in (w2, v2)]
    a, b = optimizer_of([w, v], policy, {w: ROWS}), optimizer_of(wide, policy, {wide[0]: ROWS})
    for optimizer in (a, b):
        optimizer.param_groups[0]["eps"] = 1e-2  # torch's moments are as narrow as the weights
    for step in range(3):
        give_gradients(*wide, step)
        w.grad, v.grad = (x.grad.to(dtype) for x in wide)
        a.step()
        b.step()
    assert w.dtype == dtype and gap(w, wide[0]) < 16 * torch.finfo(dtype).eps


@every_policy
def test_complex_weights_step_as_their_pairs(policy):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 3, generator=generator, dtype=torch.complex128).requires_grad_()
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()
    a, b = optimizer_of([z], policy, {z: ROWS}), optimizer_of([pairs], policy, {pairs: ROWS})
    for _ in range(3):
        z.grad = torch.randn(4, 3, generator=generator, dtype=torch.complex128)
        pairs.grad = torch.view_as_real(z.grad).clone()
        a.step()
        b.step()
    assert gap(torch.view_as_real(z.detach()), pairs) < 1e-12


@every_policy
def test_large_weights_are_walked_in_pieces_to_the_same_result(policy, monkeypatch):
    (w, v), (w2, v2) = pair(), pair()
    a = optimizer_of([w, v], policy, {w: Blocks(dim=1), v: Blocks(size=2)})
    b = optimizer_of([w2, v2], policy, {w2: Blocks(dim=1), v2: Blocks(size=2)})
    for step in range(3):
        give_gradients(w, v, step)
        give_gradients(w2, v2, step)
        a.step()
        with monkeypatch.context() as patch:
            patch.setattr("tangential.blocks.CPU_CHUNK", 8)
            b.step()
    assert gap(w, w2) < 1e-12 and gap(v, v2) < 1e-12


@every_policy
def test_lists_of_tensors_give_the_same_as_pieces(policy, monkeypatch):
    """What a device takes."""
    (w, v), (w2, v2) = pair(), pair()
    a, b = optimizer_of([w, v], policy, Blocks(dim=1)), optimizer_of([w2, v2], policy, Blocks(dim=1))
    for step in range(3):
        give_gradients(w, v, step)
        give_gradients(w2, v2, step)
        a.step()
        with monkeypatch.context() as patch:
            patch.setattr(repair, "chunked_sums", repair.listed_sums)
            b.step()
    assert gap(w, w2) < 1e-12 and gap(v, v2) < 1e-12


@every_policy
@pytest.mark.parametrize("split", [True, False])
def test_steps_do_not_depend_on_how_weights_are_parted(policy, split):
    shapes = [(8, 4), (2, 4), (3, 4), (4, 4)]
    params, twins = weights(shapes=shapes), weights(shapes=shapes)
    whole = optimizer_of(params, policy, split=split)
    one_by_one = [optimizer_of([p], policy) for p in twins]
    for step in range(3):
        give_any_gradients(params, step)
        give_any_gradients(twins, step)
        whole.step()
        for each in one_by_one:
            each.step()
    assert all(gap(p, q) < 1e-12 for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("split", [True, False])
def test_a_copy_is_no_larger_than_the_largest_weight_where_the_base_can_be_split(split, monkeypatch):
    params = weights(torch.float32, [(8, 4), (2, 4), (3, 4), (9, 4), (1, 4), (7, 4), (5,)])
    optimizer = optimizer_of(params, "project", split=split)
    made = []
    original = torch.empty
    monkeypatch.setattr("tangential.radial.repair.torch.empty", lambda n, **kw: made.append(n) or original(n, **kw))
    for step in range(3):
        give_any_gradients(params, step)
        optimizer.step()
    if split:  # and the same memory serves every part and step
        assert max(made) == 9 * 4 and len(made) <= 2
    else:
        assert sum(made) == 3 * sum(p.numel() for p in params if p.ndim > 1)


def test_an_optimizer_that_counts_per_group_is_stepped_once():
    class Counting(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1, "t": 0})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                group["t"] += 1
                for p in group["params"]:
                    p.sub_(p.grad, alpha=0.1 / group["t"])

    params = weights(shapes=[(4, 3), (2, 3), (2, 2)])
    optimizer = Radial(Counting(params), Project(), Blocks())
    for step in range(3):
        give_any_gradients(params, step)
        optimizer.step()
    assert optimizer.param_groups[0]["t"] == 3


@pytest.mark.parametrize("tensor_lr", [False, True])
@every_policy
def test_a_tensor_is_a_learning_rate(policy, tensor_lr):
    (w, v), (w2, v2) = pair(), pair()
    a, b = optimizer_of([w, v], policy, {w: ROWS}), optimizer_of([w2, v2], policy, {w2: ROWS})
    if tensor_lr:
        b.param_groups[0]["lr"] = torch.tensor(0.01, dtype=torch.float64)
    for step in range(3):
        give_gradients(w, v, step)
        give_gradients(w2, v2, step)
        a.step()
        b.step()
    assert gap(w, w2) < 1e-12


def test_lazy_parameters_are_treated_once_they_have_a_shape():
    model = nn.LazyLinear(4, bias=False)
    optimizer = Radial(torch.optim.SGD(model.parameters(), lr=0.1), Fix(), Blocks())
    model(torch.ones(2, 3)).square().sum().backward()
    norms = model.weight.detach().norm(dim=1)
    optimizer.step()
    assert torch.allclose(model.weight.detach().norm(dim=1), norms)


def test_parts_hold_one_kind_of_weight():
    half, single = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16)), nn.Parameter(torch.ones(4, 2))
    optimizer = Radial(torch.optim.AdamW([half, single]), Project(), {half: Blocks(), single: Blocks(size=2)})
    parts = optimizer._partition.parts
    assert all(isinstance(part, Part) and len({(p.dtype, p.device) for p in part.params}) == 1 for part in parts)
    assert {part.blocks for part in parts} == {Blocks(), Blocks(size=2)}


def test_sharded_weights_are_refused_in_words():
    fake = torch.Tensor._make_subclass(type("DTensor", (torch.Tensor,), {}), torch.ones(4, 2), True)
    with pytest.raises(ValueError, match="is sharded"):
        Radial(torch.optim.SGD([fake], lr=0.1), Project(), Blocks())


@pytest.mark.slow
def test_a_fixed_norm_does_not_drift_in_float32():
    """Each step rounds, and retracts to the same norm: over ten thousand steps nothing adds up."""
    w, v = pair(torch.float32)
    optimizer = Radial(torch.optim.SGD([w, v], lr=0.01, momentum=0.9), Fix(), {w: ROWS})
    norms = w.detach().double().norm(dim=1)
    for step in range(10_000):
        w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    assert ((w.detach().double().norm(dim=1) / norms - 1).abs() < 2e-7).all()

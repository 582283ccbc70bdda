"""A ZeroRedundancyOptimizer around ours: what it saves is read by default, and telemetry reads the optimizer inside."""

import io

import pytest
import torch
from torch import distributed, nn

from tangential import SGDP, AdamP, Blocks, find_invariances, watch


@pytest.fixture
def alone(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def trained(maker, steps, state=None):
    zero = pytest.importorskip("torch.distributed.optim").ZeroRedundancyOptimizer
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    x = torch.randn(8, 3, 8, 8)
    optimizer = zero(find_invariances(model, x).param_groups(weight_decay=0.1, names=False), maker, lr=1e-2)
    if state is not None:
        optimizer.load_state_dict(state)
    telemetry = watch(optimizer, every=1, names=model.named_parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return optimizer, telemetry


@pytest.mark.parametrize("maker", [AdamP, SGDP])
def test_its_state_goes_through_a_file_and_back(maker, alone):
    optimizer, _ = trained(maker, 2)
    optimizer.consolidate_state_dict()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file)
    assert [group["blocks"] for group in saved["param_groups"]] == [Blocks(), None]
    again, _ = trained(maker, 0, saved)
    for own, other in zip(optimizer.param_groups, again.param_groups, strict=True):
        for p, q in zip(own["params"], other["params"], strict=True):
            first, second = optimizer.optim.state[p], again.optim.state[q]
            assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_momentum_is_measured_though_the_wrapper_has_no_state(alone):
    optimizer, telemetry = trained(AdamP, 3)
    weight = optimizer.param_groups[0]["params"][0]
    momentum = optimizer.optim.state[weight]["exp_avg"]
    cosines = nn.functional.cosine_similarity(weight.detach().flatten(1), momentum.flatten(1))
    measured = telemetry.latest["weights"]["0.weight"]["radial_momentum"]  # along the weight before the step
    assert measured == pytest.approx(cosines.mean().item(), abs=0.05) and abs(measured) > 0.1

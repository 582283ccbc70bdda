"""Accelerate, and timm's schedulers and lookahead, around a wrapped optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import Blocks, Radial
from tangential.radial import Fix, Rotate

POLICIES = {"fix": Fix(), "rotate": Rotate(eta=0.01)}
every_policy = pytest.mark.parametrize("policy", POLICIES)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.GroupNorm(4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(16, 3, 6, 6, generator=generator), torch.arange(16) % 2)


def wrapped(model, policy):
    return Radial(torch.optim.AdamW(model.parameters(), lr=1e-2), POLICIES[policy], {model[0].weight: Blocks()})


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@every_policy
def test_accelerate_resumes_bit_for_bit(policy, tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def fit(accelerator, model, optimizer, schedule, loader, steps):
        for _ in range(steps):
            for x, y in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(nn.functional.cross_entropy(model(x), y))
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()

    def prepared():
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = net()
        optimizer = wrapped(model, policy)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return accelerator, *accelerator.prepare(model, optimizer, schedule, DataLoader(data(), 4))

    accelerator, model, *rest = prepared()
    fit(accelerator, model, *rest, 2)
    accelerator.save_state(str(tmp_path))
    fit(accelerator, model, *rest, 2)
    again, other, *others = prepared()
    again.load_state(str(tmp_path))
    fit(again, other, *others, 2)
    assert equal(model, other)


@every_policy
def test_timms_lookahead_and_scheduler(policy):
    optim, scheduler = pytest.importorskip("timm.optim"), pytest.importorskip("timm.scheduler")
    model = net()
    norm = model[0].weight.detach().flatten(1).norm(dim=1)
    inner = wrapped(model, policy)
    optimizer = optim.Lookahead(inner, k=3)
    schedule = scheduler.CosineLRScheduler(inner, t_initial=5, warmup_t=2, warmup_lr_init=1e-4)
    for epoch in range(2):
        for x, y in DataLoader(data(), 4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step(epoch)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert (model[0].weight.detach().flatten(1).norm(dim=1) <= norm * 1.001).all()  # lookahead cuts across the sphere
    assert inner.base.param_groups[0]["lr"] != 1e-2

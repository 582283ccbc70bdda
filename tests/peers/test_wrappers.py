"""Contracts of timm and pytorch_optimizer with an optimizer: their groups, schedulers and wrapping optimizers."""

import copy

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, every, same

timm = pytest.importorskip("timm")
for part in ("optim", "scheduler", "utils"):
    pytest.importorskip(f"timm.{part}")
pytorch_optimizer = pytest.importorskip("pytorch_optimizer")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

DOES_NOT_APPLY = {
    "timm create_optimizer_v2(opt='tangential')": "takes names of its own registry; `opt=` may not be a class",
    "timm float64 reference values": "made with its own classes, which `benchmarks/parity.py` compares ours with",
    "pytorch_optimizer's own option tables": "settings of its classes (weight_decouple, use_gc, ...), not of ours",
}
"""Contracts that cannot hold, and why."""


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def train(optimizer, model, steps, after=lambda: None):
    x, y = torch.linspace(-1, 1, 8 * 108).reshape(8, 3, 6, 6), torch.tensor([0, 1] * 4)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        closure()
        optimizer.step()
        after()
    return closure().item()


@every
def test_timms_groups_and_schedulers(name):
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=2)
    for groups in (
        timm.optim.param_groups_weight_decay(vit, 0.05),
        timm.optim.param_groups_layer_decay(vit, 0.05, layer_decay=0.7),
    ):
        optimizer = MAKERS[name](groups)
        schedule = timm.scheduler.CosineLRScheduler(optimizer, t_initial=5, warmup_t=2, warmup_lr_init=1e-4)
        for epoch in range(3):
            vit(torch.ones(2, 3, 32, 32)).square().sum().backward()
            optimizer.step()
            schedule.step(epoch)
        again = MAKERS[name](groups)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert [g.get("lr_scale") for g in again.param_groups] == [g.get("lr_scale") for g in optimizer.param_groups]


@every
def test_lookahead_of_timm_around_ours(name):
    model = net()
    optimizer = timm.optim.Lookahead(MAKERS[name](model.parameters()), k=2)
    first = train(optimizer, model, 0)
    assert train(optimizer, model, 12) < first
    again = timm.optim.Lookahead(MAKERS[name](model.parameters()), k=2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(again, model, 1)


@every
def test_lookahead_of_pytorch_optimizer_around_ours(name):
    model = net()
    optimizer = pytorch_optimizer.Lookahead(MAKERS[name](model.parameters()), k=2)
    first = train(optimizer, model, 0)
    assert train(optimizer, model, 12) < first


@every
def test_sharpness_aware_minimisation_around_ours(name):
    model = net()
    optimizer = pytorch_optimizer.SAM(model.parameters(), base_optimizer=MAKERS[name], rho=0.05)
    x, y = torch.linspace(-1, 1, 8 * 108).reshape(8, 3, 6, 6), torch.tensor([0, 1] * 4)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.first_step(zero_grad=True)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.second_step(zero_grad=True)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@every
def test_gradient_centralisation_and_clipping_leave_the_step_to_ours(name):
    """Utilities that work on gradients before the step."""
    model, twin = net(), net()
    a, b = MAKERS[name](model.parameters()), MAKERS[name](twin.parameters())
    train(a, model, 3, after=lambda: timm.utils.dispatch_clip_grad(model.parameters(), 1.0, mode="agc"))
    train(b, twin, 3)
    assert same([p.detach() for p in model.parameters()], [p.detach() for p in twin.parameters()])

"""Distributed checkpoints: saved at any step and loaded anywhere, a run goes on bit for bit."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from support.optimizer_makers import MAKERS, MOMENTS, every, same
from support.weights import weights
from tangential import AdamP, Blocks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
BLOCKS = {"cosine": "cosine", "sticky": "sticky", "channel": Blocks(), "none": None}
each_blocks = pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
backends = pytest.mark.parametrize("backend", [{}, dict(foreach=True), dict(foreach=False)], ids=str)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def made(name, blocks, seed=0, **settings):
    model = net(seed)
    first, *others = model.named_parameters()
    groups = [dict(params=[first], blocks=blocks), dict(params=others, blocks=None)]
    return model, MAKERS[name](groups, **settings)


def train(model, optimizer, steps):
    for step in steps:
        x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def saved_by(model, optimizer, options):
    return {"model": get_model_state_dict(model), "optim": get_optimizer_state_dict(model, optimizer, options=options)}


@every
@each_blocks
@backends
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_a_distributed_checkpoint_goes_on_bit_for_bit_and_so_does_the_run_that_was_saved(
    name, blocks, backend, flat, before, tmp_path
):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    uninterrupted = train(*made(name, blocks, **backend), range(before + 4))
    run = made(name, blocks, **backend)
    train(*run, range(before))
    run[1].zero_grad()
    checkpoint.save(saved_by(*run, options), checkpoint_id=tmp_path)
    assert same(train(*run, range(before, before + 4)), uninterrupted)

    model, optimizer = made(name, blocks, seed=1, **backend)
    loaded = saved_by(model, optimizer, options)
    checkpoint.load(loaded, checkpoint_id=tmp_path)
    set_model_state_dict(model, loaded["model"])
    set_optimizer_state_dict(model, optimizer, loaded["optim"], options=options)
    assert same(train(model, optimizer, range(before, before + 4)), uninterrupted)


@every
@each_blocks
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_state_before_the_first_step_is_whole_and_counts_none(name, blocks, lr):
    model, optimizer = made(name, blocks, lr=lr, foreach=True if isinstance(lr, torch.Tensor) else None)
    before = copy.deepcopy(model.state_dict())
    get_optimizer_state_dict(model, optimizer)
    assert len(optimizer.state) == len(list(model.parameters()))
    for own in optimizer.state.values():
        assert own.keys() >= {"step", *MOMENTS[name]} and not any(x.any() for x in own.values())
    assert str(model.state_dict()) == str(before) and all(group["lr"] == 0.5 for group in optimizer.param_groups)


@every
@pytest.mark.parametrize(
    ("lr", "gradient", "count"), [(0.0, 0.0, 0), (0.0, 1.0, 1), (0.1, 0.0, 1), (0.0, float("nan"), 1)]
)
@pytest.mark.parametrize("fused", [False, None])
def test_only_a_first_step_that_moves_nothing_is_not_counted(name, lr, gradient, count, fused):
    """A warm-up that begins at 0, or dead weights, count as in torch; so does whatever comes later."""
    p = weights(torch.float32, [(4, 3)])[0]
    optimizer = MAKERS[name]([p], lr=lr, fused=fused)
    p.grad = torch.full_like(p, gradient)
    optimizer.step()
    assert optimizer.state[p]["step"] == count
    optimizer.step()
    assert optimizer.state[p]["step"] == count + 1


def test_a_distributed_checkpoint_of_adamw_goes_on_in_groups_by_blocks():
    model = net()
    other = torch.optim.AdamW(model.named_parameters(), lr=0.25)
    train(model, other, range(3))
    saved = get_optimizer_state_dict(model, other)
    twin = copy.deepcopy(model)
    first, *others = twin.named_parameters()
    optimizer = AdamP([dict(params=others, blocks=None), dict(params=[first], blocks=Blocks())])
    set_optimizer_state_dict(twin, optimizer, copy.deepcopy(saved))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(other.state[p]["exp_avg"], optimizer.state[q]["exp_avg"])
        assert optimizer.state[q]["step"] == 3
    assert [(group["lr"], group["blocks"]) for group in optimizer.param_groups] == [(0.25, None), (0.25, Blocks())]
    train(twin, optimizer, range(2))

"""State of sharded weights through `torch.distributed.checkpoint`, run on every rank."""

import copy

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from support.optimizer_makers import MAKERS


def made(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 3))
    fully_shard(net, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    return net, MAKERS[name](net.named_parameters())


def train(net, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        net(torch.randn(5, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()


def resumed(name, before):
    """The largest difference, on this rank, from a run without a checkpoint, and the counts when it was loaded."""
    whole = made(name)
    train(*whole, range(before + 3))
    first = made(name)
    train(*first, range(before))
    first[1].zero_grad()
    saved = copy.deepcopy(get_optimizer_state_dict(*first))
    second = made(name)
    second[0].load_state_dict(first[0].state_dict())
    set_optimizer_state_dict(*second, saved)
    counts = {float(own["step"]) for own in second[1].state.values()}
    train(*second, range(before, before + 3))
    pairs = zip(whole[0].parameters(), second[0].parameters(), strict=True)
    gaps = [float((p.to_local() - q.to_local()).abs().max()) for p, q in pairs if p.to_local().numel()]
    return max(gaps), counts


def damaged(name):
    """What is raised where a shard of a moment is not finite, on this rank."""
    net, optimizer = made(name)
    train(net, optimizer, range(1))
    saved = copy.deepcopy(optimizer.state_dict())
    for own in saved["state"].values():
        next(x for key, x in own.items() if key != "step").to_local().fill_(float("nan"))
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        return str(error)
    return ""

"""Saving a sharded training run with torch.distributed.checkpoint, and going on with it under another layout."""

import os
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from support.sharded_nets import OPTIMIZERS, Net, backward, groups, whole, wrapped


def _start(way, name, kind):
    cls, own = OPTIMIZERS[name]
    model, ranks, place = wrapped(way, Net().double())
    return model, cls(groups(kind, Net().double(), model), **own), (ranks, place)


def _train(model, optimizer, share, first, last):
    for step in range(first, last):
        backward(model, step, torch.float64, *share)
        optimizer.step()
        optimizer.zero_grad()


def _state(model, optimizer):
    of_model, of_optimizer = get_state_dict(model, optimizer)
    return {"model": of_model, "optimizer": of_optimizer}


def train_and_save(folder, way, name, kind, steps):
    """Train for so many steps and save."""
    model, optimizer, share = _start(way, name, kind)
    _train(model, optimizer, share, 0, steps)
    dcp.save(_state(model, optimizer), checkpoint_id=folder)


def save_and_die(folder, way, name, kind, steps):
    """The same, but every process dies between its data and the metadata that makes a checkpoint whole."""
    write = dcp.FileSystemWriter.write_data

    def write_and_die(*args):
        write(*args).wait()
        os._exit(9)

    dcp.FileSystemWriter.write_data = write_and_die
    train_and_save(folder, way, name, kind, steps)


def newest(folder):
    """The newest checkpoint that is whole."""
    return max(path.parent for path in Path(folder).glob("*/.metadata"))


def load_and_train(folder, way, name, kind, first, last, *, has_state=False):
    """Load, go on until a step, and return every weight as one process would hold it.

    Args:
        folder: The checkpoint.
        way: How the model is sharded now.
        name: The optimizer.
        kind: The blocks.
        first: The steps that were taken.
        last: Those that are taken at the end.
        has_state: Whether the optimizer has taken steps, and so has state, before it loads.
    """
    model, optimizer, share = _start(way, name, kind)
    if has_state:
        _train(model, optimizer, share, 90, 92)
    state = _state(model, optimizer)
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    _train(model, optimizer, share, first, last)
    return [whole(p).detach().clone() for p in model.parameters()]


def uninterrupted(name, kind, steps):
    """The weights of one process that trains through."""
    cls, own = OPTIMIZERS[name]
    model = Net().double()
    optimizer = cls(groups(kind, Net().double(), model), **own)
    _train(model, optimizer, (1, 0), 0, steps)
    return [p.detach() for p in model.parameters()]

"""Records of sharded nets beside those of the same net in one process."""

import math

import torch
import torch.distributed as dist
from torch.distributed.tensor.debug import CommDebugMode

from support.sharded_nets import OPTIMIZERS, Net, backward, blocks_of, groups, wrapped
from tangential import watch


def flattened(record, at=""):
    """Every number of a record by its path."""
    if isinstance(record, dict):
        return {key: value for name, x in record.items() for key, value in flattened(x, f"{at}/{name}").items()}
    if isinstance(record, (list, tuple)):
        return {key: value for i, x in enumerate(record) for key, value in flattened(x, f"{at}/{i}").items()}
    return {at: record}


def records(way, name, kind, *, all_ranks=False, steps=3, missing=False):
    """The largest difference of any number of any record, how many records this rank has, and messages of a record."""
    cls, own = OPTIMIZERS[name]
    before, alone, net = (Net().double() for _ in range(3))
    model, ranks, place = wrapped(way, net)
    optimizers = [cls(groups(kind, before, each), **own) for each in (alone, model)]
    found = blocks_of(kind, before)
    settings = dict(every=1, detail="blocks", keep=steps, all_ranks=all_ranks)
    if kind not in ("cosine", "none"):
        settings["invariances"] = found
    theirs = watch(optimizers[0], **{**settings, "all_ranks": True}, names=alone.named_parameters())
    ours = watch(optimizers[1], **settings, names=model.named_parameters())
    sent = 0
    for step in range(steps):
        backward(alone, step, torch.float64, 1, 0)
        backward(model, step, torch.float64, ranks, place)
        if missing:  # of one rank its part of a gradient, of all the gradient of another weight
            alone.tiny.weight.grad = model.tiny.weight.grad = None
        optimizers[0].step()
        with CommDebugMode() as messages:
            optimizers[1].step()
        sent = sum(messages.get_comm_counts().values())
        for each in optimizers:
            each.zero_grad()
    worst = 0.0
    for mine, right in zip(ours.records, theirs.records, strict=False):
        mine, right = flattened(mine), flattened(right)
        assert mine.keys() == right.keys(), mine.keys() ^ right.keys()
        for key, value in right.items():
            if isinstance(value, float) and math.isfinite(value):
                worst = max(worst, abs(mine[key] - value) / max(abs(value), 1e-6))
            else:
                assert mine[key] == value or value != value, (key, mine[key], value)
    return worst, len(ours.records), dist.get_rank(), sent

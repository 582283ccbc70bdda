"""One tensor at a time: the definition as it reads, and the backend that autograd can see through."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tangential.backends.buckets import Bucket
from tangential.backends.opmath import to_opmath
from tangential.backends.rows import across, dots, lay_out, row_sums


def eager(batch: Bucket) -> None:
    """Take one step, weight by weight."""
    for i in range(len(batch.weights)):
        _step(batch.only([i]).prepared())


def _step(batch: Bucket) -> None:
    """One weight's step."""
    (w,), (g,), old = batch.weights, batch.grads, [moment for (moment,) in batch.moments]
    rule = batch.rule(batch.t[0] if isinstance(batch.t, list) else batch.t)
    wide = to_opmath(w.clone() if torch.is_grad_enabled() else w)  # autograd keeps it, and w is written below
    new = rule.advance(g, *old)
    u = rule.direction(g, *new)
    w.copy_(wide * _keep(wide, g, u, batch) - u * batch.projection.lr)
    for moment, value in zip(old, new, strict=True):
        moment.copy_(value)


def _keep(w: Tensor, g: Tensor, u: Tensor, batch: Bucket) -> Tensor | float:
    if batch.blocks is None:
        return batch.projection.plain
    layout = lay_out((tuple(w.shape),), batch.blocks, w.device)
    found = row_sums(w, g, u, batch.blocks, partial(dots, dim=batch.dim))
    return across(layout.keep(found, batch.projection, batch.ballot), w, batch.dim)

"""Eager backend: one tensor at a time, the definition as it reads; autograd can differentiate through it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tangential.backends.buckets import Bucket
from tangential.backends.opmath import to_opmath
from tangential.backends.rows import across, lay_out, row_sums
from tangential.blocks import row_dots


def eager(bucket: Bucket) -> None:
    """Take one step, weight by weight."""
    for i in range(len(bucket.weights)):
        _step(bucket.only([i]).prepared())


def _step(bucket: Bucket) -> None:
    """One weight's step."""
    (w,), (g,), old = bucket.weights, bucket.grads, [moment for (moment,) in bucket.moments]
    rule = bucket.rule(bucket.t[0] if isinstance(bucket.t, list) else bucket.t)
    # autograd keeps the weight, which is written below
    wide = to_opmath(w.clone()) if torch.is_grad_enabled() else bucket.wide()[0]
    new = rule.advance(g, *old)
    u = rule.direction(g, *new)
    new_w = wide * _keep(wide, g, u, bucket) - u * bucket.projection.lr
    if torch.is_grad_enabled():
        w.copy_(new_w)
    else:
        bucket.write([new_w])
    for moment, value in zip(old, new, strict=True):
        moment.copy_(value)


def _keep(w: Tensor, g: Tensor, u: Tensor, bucket: Bucket) -> Tensor | float:
    if bucket.blocks is None:
        return bucket.projection.plain
    layout = lay_out((tuple(w.shape),), bucket.blocks, w.device)
    found = row_sums(w, g, u, bucket.blocks, partial(row_dots, dim=bucket.dim))
    return across(layout.keep(found, bucket.projection, bucket.ballot), w, bucket.dim)

"""Foreach backend: all weights of a bucket at once, in few launches, without a read-back to the host.

    weights, gradients, moments    lists of tensors, any shapes
    advance   moments and direction u of every weight, by `torch._foreach_*` over the lists (Algorithm 2, lines 3 to 5)
    sums      ww, wu (and gg, wg for the paper's test) of every row, `(2 or 4, rows of all weights)`: one kernel a sum
              and weight, joined, so that what follows is a handful of launches for the whole model
    keep      one factor per row of all weights (lines 6 to 8), by `torch.where`: nothing branches on data
    move      w <- keep w - lr u (line 9)

`cpu_chunks` runs these parts on cache-sized pieces.
"""

# pyright: reportPrivateImportUsage=false
# torch._foreach_* has no public name, but is what torch.optim itself and every optimizer library is built on

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Rule
from tangential.backends.buckets import Bucket
from tangential.backends.modes import recording
from tangential.backends.rows import across, lay_out, row_sums, view_sums
from tangential.backends.tensor_list import TensorList


def foreach(bucket: Bucket) -> None:
    """Take one step."""
    bucket = bucket.prepared()
    u = advance(bucket)
    move(bucket, bucket.projection.plain if bucket.blocks is None else keep(bucket, sums(bucket, u)), u)


def advance(bucket: Bucket) -> TensorList:
    """Write this step's moments; returns the direction."""
    moments = [TensorList(moment) for moment in bucket.moments]
    for old, new in zip(moments, _rule(bucket).advance(TensorList(bucket.grads), *moments), strict=True):
        torch._foreach_copy_(old.bare, new.tensors)
    return direction(bucket)


def direction(bucket: Bucket) -> TensorList:
    """The direction, from the moments that `advance` wrote."""
    return _rule(bucket).direction(TensorList(bucket.grads), *map(TensorList, bucket.moments))


def sums(bucket: Bucket, u: TensorList) -> Tensor:
    """The sums per row that the gate needs, `(2 or 4, rows of all weights)`: `ww, wu`, or `ww, gg, wg, wu`."""
    assert bucket.blocks is not None, "what is not projected has no gate"
    return row_sums(_wide(bucket), TensorList(bucket.grads), u, bucket.blocks, partial(dots, dim=bucket.dim))


def angle_sums(bucket: Bucket) -> Tensor:
    """Those sums that the paper's test needs, `(3, rows of all weights)`."""
    return torch.stack(view_sums(_wide(bucket), TensorList(bucket.grads), dots=partial(dots, dim=0)))


def dots(a: TensorList, b: TensorList, dim: int) -> Tensor:
    """`a.b` of every row of every tensor, `(rows of all weights,)`; a norm where it can be, which passes once."""
    if a is b:
        return _joined([torch.linalg.vector_norm(x, dim=_others(x, dim)) if x.ndim > 1 else x for x in a.bare]) ** 2
    found = _joined(
        [(x * y).sum(_others(x, dim)) if x.ndim > 1 else x * y for x, y in zip(a.bare, b.bare, strict=True)]
    )
    return found * (a.factor * b.factor)


def keep(bucket: Bucket, sums: Tensor) -> Tensor:
    """The factor on the weight for every row, `(rows of all weights,)`."""
    assert bucket.blocks is not None, "what is not projected has no gate"
    layout = lay_out(tuple(tuple(w.shape) for w in bucket.weights), bucket.blocks, bucket.weights[0].device)
    return layout.keep(sums, bucket.projection, bucket.ballot)


def move(bucket: Bucket, keep: Any, u: TensorList) -> None:
    """`w <- keep * w - lr * u`; `keep` is a number, or one factor per row of all weights."""
    if isinstance(keep, Tensor) and keep.ndim:
        factors = keep.split([rows(w, bucket.dim) for w in bucket.weights]) if len(bucket.weights) > 1 else (keep,)
        keep = TensorList([across(k, w, bucket.dim) for k, w in zip(factors, bucket.weights, strict=True)])
    w, change = _wide(bucket), u.scaled(-bucket.projection.lr)
    if isinstance(keep, TensorList) and abs(change.factor - 1) < 1e-12 and not recording():
        for x, k, d in zip(w.bare, keep.bare, change.bare, strict=True):
            torch.addcmul(d, x, k, out=x)  # one pass instead of two
    else:
        # named functions: torch.compile traces no operator between a list and a tensor, and no `out` that lies
        # transposed or with gaps
        torch._foreach_mul_(w.bare, keep.tensors if isinstance(keep, TensorList) else keep)
        torch._foreach_add_(w.bare, change.bare, alpha=change.factor)
    if w.bare[0] is not bucket.weights[0]:
        bucket.write(w.bare)


def _wide(bucket: Bucket) -> TensorList:
    return TensorList(bucket.wide())


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat([x.reshape(-1) for x in tensors])


def _others(x: Tensor, dim: int) -> list[int]:
    return [d for d in range(x.ndim) if d != dim]


def rows(w: Tensor, dim: int) -> int:
    """How many rows a weight has along this dimension."""
    return w.shape[dim] if w.ndim else 1


def _rule(bucket: Bucket) -> Rule:
    return bucket.rule(TensorList(bucket.t) if isinstance(bucket.t, list) else bucket.t)

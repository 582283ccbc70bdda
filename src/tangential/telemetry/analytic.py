"""The sums of a step of our own optimizers, computed from what the step is about to read: nothing is copied.

With the moments that the step will write and the direction `u` they give, the update is `a w - lr u`, where `a` is what
decay and projection do to the weight. So its sums follow from those of `w` and `u`, and the gate is the optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.algorithm import Rule
from tangential.backends.buckets import GroupStep, counts, projected
from tangential.backends.opmath import opmath_dtype
from tangential.backends.rows import lay_out
from tangential.backends.sticky import Votes
from tangential.blocks import Blocks
from tangential.optimizers.base import Projected
from tangential.optimizers.validation import check_gradients
from tangential.telemetry.block_rows import cut, pieces, real, row_dots, to_float64
from tangential.telemetry.block_sums import Part
from tangential.telemetry.watch_list import Watched


def can_hand_over(optimizer: object, one: Watched) -> bool:
    """Whether the sums tell what will be stored.

    Half precision rounds most of a step away, so there it has to be looked at; and blocks along another dimension than
    the optimizer projects along would need sums it does not take.
    """
    if not isinstance(optimizer, Projected) or one.weight.dtype != opmath_dtype(one.weight.dtype):
        return False
    own = one.group["blocks"]
    return not projected(one.weight, own) or one.blocks.dim == (own.dim if isinstance(own, Blocks) else 0)


def handed(optimizer: Projected, watched: list[Watched]) -> Iterator[Part]:
    """Measure the step that is about to be taken; weights without a gradient take none.

    Args:
        optimizer: Its gradients are there.
        watched: Weights that `can_hand_over` holds for.
    """
    places = {}
    for lot in optimizer.group_steps():
        check_gradients(lot.weights, lot.grads)
        taken = counts(lot.steps, lot.capturable) if lot.steps else []
        places |= {id(p): (lot, i, t + 1) for i, (p, t) in enumerate(zip(lot.weights, taken, strict=True))}
    for one in watched:
        if id(one.weight) in places:
            yield _part(one, *places[id(one.weight)]) if one.weight.numel() else Part.empty(one)


def _part(one: Watched, lot: GroupStep, i: int, t: Any) -> Part:
    blocks = lot.blocks if projected(one.weight, lot.blocks) else None
    w, g, *moments = (real(x) for x in (lot.weights[i], lot.grads[i], *(moment[i] for moment in lot.moments)))
    sums = _row_sums(w, g, moments, lot.rule(t), one.blocks.dim, sign=-1 if lot.maximize else 1)
    ww, wu, uu, gg, wg, mm, wm = sums
    factor, fired = _factor(lot, i, t, blocks, torch.stack([ww, gg, wg, wu]))
    lr = lot.projection.lr
    a = factor - 1
    dd = a * a * ww - 2 * a * lr * wu + lr * lr * uu
    rows = torch.stack([ww, dd, a * ww - lr * wu, gg, wg, mm, wm])
    measured = cut(tuple(w.shape), one.blocks, None, w.device)
    return Part(one, measured.total(measured.chosen(rows)), ww.sum(), fired)


def _row_sums(w: Tensor, g: Tensor, moments: list[Tensor], rule: Rule, dim: int, *, sign: int) -> Tensor:
    """`ww, wu, uu, gg, wg, mm, wm` of every row, `(7, rows)`."""
    found = []
    for w_rows, g_rows, *old in pieces(dim, w, g, *moments):
        given = g_rows if sign > 0 else -g_rows
        m, *others = rule.advance(given, *old)  # as wide as the step's own arithmetic; only the sums are wider
        x = _Rows(*map(to_float64, (w_rows, g_rows, m, rule.direction(given, m, *others))))
        pairs = ((x.w, x.w), (x.w, x.u), (x.u, x.u), (x.g, x.g), (x.w, x.g), (x.m, x.m), (x.w, x.m))
        found.append(row_dots(*pairs))
    return torch.cat(found, 1)


class _Rows(NamedTuple):
    """Some rows of the weight, its gradient, its momentum after the step and the direction."""

    w: Tensor
    g: Tensor
    m: Tensor
    u: Tensor


def _factor(
    lot: GroupStep, i: int, t: Any, blocks: Blocks | str | None, sums: Tensor
) -> tuple[Tensor | float, Tensor | bool]:
    """What the step will multiply each row by, and whether it projects anything."""
    if blocks is None:
        return lot.projection.plain, False
    layout = lay_out((tuple(real(lot.weights[i]).shape),), blocks, sums.device)
    if isinstance(blocks, Blocks):
        return layout.factors(sums[[0, 3]], lot.projection, None), True
    # copies: the vote is counted by the step itself
    votes = Votes([lot.votes[i].clone()], [t] if isinstance(t, Tensor) else t) if lot.votes else None
    views = layout.views(sums, lot.projection, votes)
    return layout.factors(sums, lot.projection, views), (views[0] | views[1]).any()

"""Sums of a step of our own optimizers, predicted from what the step is about to read: nothing is copied.

With the moments that the step will write and the direction `u` that they give, the update is `a w - lr u`, where
`1 + a` is the factor of decay and projection (line 9 of both algorithms). So the sums of the update follow from those
of `w` and `u`, row by row:

    d.d = a^2 w.w - 2 a lr w.u + lr^2 u.u        w.d = a w.w - lr w.u

A prediction is not what the weight did. It serves weights of which `watch` may not copy all, and counts only if a
sample of elements was stored as predicted; else the blocks that were copied are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tangential.backends.buckets import projected
from tangential.backends.group_step import GroupStep, counts
from tangential.backends.opmath import opmath_dtype
from tangential.backends.rows import lay_out
from tangential.backends.sticky import Votes
from tangential.blocks import Blocks, chunked_row_dots
from tangential.optimizers.base import Projected
from tangential.telemetry.block_rows import block_rows, real_rows, to_float64
from tangential.telemetry.block_sums import BlockSums
from tangential.telemetry.watch_list import WatchedWeight

SAMPLE = 256
"""Elements of each weight whose predicted values are compared with the stored ones."""

TOLERANCE = 1e-3
"""How far a stored update may be from the predicted one, relative to it; beside some roundings of the weight."""


def is_predictable(optimizer: object, weight: WatchedWeight) -> bool:
    """Whether what will be stored follows from the sums.

    In half precision rounding loses most of a step, and blocks along another dimension than the optimizer projects
    along would need sums that are not taken.
    """
    if not isinstance(optimizer, Projected) or weight.tensor.dtype != opmath_dtype(weight.tensor.dtype):
        return False
    own = weight.group["blocks"]
    return not projected(weight.tensor, own) or weight.blocks.dim == (own.dim if isinstance(own, Blocks) else 0)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The step of one weight before it is taken.

    Args:
        sums: What it will have done.
        place: Indices of the sampled elements, one tensor per dimension, `(sample,)` each.
        before: Their values, `(sample,)`.
        after: Their predicted values.
    """

    sums: BlockSums
    place: tuple[Tensor, ...]
    before: Tensor
    after: Tensor

    def is_stored(self) -> Tensor:
        """Whether the sampled elements have the predicted values, 0-d, once the step was taken.

        A few roundings of the weight are allowed, which are not the step's fault.
        """
        stored = real_rows(self.sums.weight.tensor)[self.place]
        rounding = 4 * torch.finfo(stored.dtype).eps * self.before.abs()
        allowed = TOLERANCE * (self.after - self.before).abs() + rounding
        fits = ((stored - self.after).abs() <= allowed) | (stored.isnan() & self.after.isnan())
        return fits.all()


def predictions(optimizer: Projected, weights: list[WatchedWeight]) -> Iterator[Prediction]:
    """Predict the step that is about to be taken; weights without a gradient take none.

    Args:
        optimizer: Its gradients are there.
        weights: Weights that are predictable.
    """
    places = {}
    for group_step in optimizer.group_steps():
        taken = counts(group_step.steps, group_step.capturable) if group_step.steps else []
        pairs = zip(group_step.weights, taken, strict=True)
        places |= {id(p): (group_step, i, t + 1) for i, (p, t) in enumerate(pairs)}
    for weight in weights:
        g = weight.tensor.grad
        fits = (
            g is not None and g.layout == torch.strided and g.shape == weight.tensor.shape
        )  # else the step refuses it
        if fits and id(weight.tensor) in places and weight.tensor.numel():
            yield _prediction(weight, *places[id(weight.tensor)])


def _prediction(weight: WatchedWeight, group_step: GroupStep, i: int, t: Any) -> Prediction:
    """The step of the `i`-th weight of its group, its `t`-th."""
    tensors = (group_step.weights[i], group_step.grads[i], *(moment[i] for moment in group_step.moments))
    read = [real_rows(x) for x in tensors]
    rule, sign = group_step.rule(t), -1 if group_step.maximize else 1

    def advanced(w: Tensor, g: Tensor, *moments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The weight, its gradient, momentum after the step and direction, in the step's own precision."""
        g_down = g if sign > 0 else -g
        m, *others = rule.advance(g_down, *moments)
        return w, g, m, rule.direction(g_down, m, *others)

    def pairs(*chunk: Tensor) -> list[tuple[Tensor, Tensor]]:
        w, g, m, u = map(to_float64, advanced(*chunk))
        return [(w, w), (w, u), (u, u), (g, g), (w, g), (m, m), (w, m)]

    ww, wu, uu, gg, wg, mm, wm = chunked_row_dots(read, pairs, weight.blocks.dim)
    factor, fired = _factor(weight, group_step, i, t, torch.stack([ww, gg, wg, wu]))
    lr = group_step.projection.lr
    a = factor - 1
    dd = a * a * ww - 2 * a * lr * wu + lr * lr * uu
    rows = block_rows(weight.shape, weight.blocks, None, ww.device)
    row_sums = rows.among(torch.stack([ww, dd, a * ww - lr * wu, gg, wg, mm, wm]))
    place = _sampled(weight.shape, ww.device)
    w, _, _, u = map(to_float64, advanced(*(x[place] for x in read)))
    after = (factor if not isinstance(factor, Tensor) or not factor.ndim else factor[place[weight.blocks.dim]]) * w
    dtype = read[0].dtype
    sums = BlockSums(weight, rows.lengths.total(row_sums), ww.sum(), fired)
    return Prediction(sums, place, w.to(dtype), (after - lr * u).to(dtype))


def _factor(
    weight: WatchedWeight, group_step: GroupStep, i: int, t: Any, sums: Tensor
) -> tuple[Tensor | float, Tensor | bool]:
    """What the step will multiply each row by, and whether it projects anything, from `ww, gg, wg, wu` per row."""
    blocks = group_step.blocks
    if blocks is None or not projected(weight.tensor, blocks):
        return group_step.projection.plain, False
    layout = lay_out((weight.shape,), blocks, sums.device)
    if isinstance(blocks, Blocks):
        return layout.factors(sums[[0, 3]], group_step.projection, None), True
    # copies: the step itself counts the vote
    steps = [t] if isinstance(t, Tensor) else t
    votes = Votes([group_step.votes[i].clone()], steps) if group_step.votes else None
    views = layout.views(sums, group_step.projection, votes)
    return layout.factors(sums, group_step.projection, views), (views[0] | views[1]).any()


def _sampled(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Indices of evenly spaced elements, one tensor per dimension; an odd stride, so that it meets every column."""
    numel = math.prod(shape)
    count = min(SAMPLE, numel)
    stride = numel // count
    flat = torch.arange(count, device=device) * (stride - (stride + 1) % 2)
    place = []
    for size in reversed(shape):
        place.append(flat % size)
        flat = flat // size
    return tuple(reversed(place))

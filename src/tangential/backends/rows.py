"""Sums per row of a weight, rows stacked over weights, and the factor of every row.

A row is one index of the dimension that is cut. Backends take the sums `ww, gg, wg, wu` of each row (`row_sums`), of
one weight or of many, one behind the other. `Layout` holds which rows are one block, sums over blocks, makes the
paper's test, and spreads the factor of each block over its rows again:

    sums (4, rows) --total--> (runs,) --cosine_views--> decision (runs,) --view_radial, keep--> factors (rows,)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Projection, Reduction, cosine_views, radial, view_radial
from tangential.backends.modes import keeping
from tangential.backends.sticky import Votes
from tangential.blocks import Blocks, RowBlocks, Run, row_blocks

Shapes = tuple[tuple[int, ...], ...]


Dots = Callable[[Any, Any], Tensor]
"""`a.b` of every row, `(rows,)`, of whatever a backend walks: a tensor, or a list of them."""


def row_sums(w: Any, g: Any, u: Any, blocks: Blocks | str, dots: Dots) -> Tensor:
    """The sums per row that the gate needs: `ww, wu`, and between them `gg, wg` for the paper's test.

    Shape `(2 or 4, rows)`.
    """
    if isinstance(blocks, Blocks):
        return torch.stack([dots(w, w), dots(w, u)])
    return torch.stack([*view_sums(w, g, dots), dots(w, u)])


def view_sums(w: Any, g: Any, dots: Dots) -> list[Tensor]:
    """The sums per row of the paper's test, `ww, gg, wg`, `(rows,)` each."""
    return [dots(w, w), dots(g, g), dots(w, g)]


def across(factor: Tensor, like: Tensor, dim: int) -> Tensor:
    """One factor per row, shaped to multiply a weight. `(rows,)` to `(1, ..., rows, ..., 1)`."""
    return factor.view([-1 if d == dim else 1 for d in range(like.ndim)])


@dataclass(frozen=True)
class Layout:
    """The runs that the stacked rows of some weights belong to.

    Args:
        runs: Rows of each run: a block, or a weight under the paper's test.
        owner: The run of each row, `(rows,)`.
        invariant: Whether a run is projected, `(runs,)`; None where all are.
        elements: Elements of a row of each run, `(runs,)`; the paper's test depends on it.
    """

    runs: RowBlocks
    owner: Tensor
    invariant: Tensor | None
    elements: Tensor

    def spread(self, x: Tensor) -> Tensor:
        """Repeat the value of each run for its rows: `(runs,)` to `(rows,)`."""
        return x if self.runs.uniform == 1 else x[self.owner]

    def views(self, sums: Tensor, projection: Projection, votes: Votes | None = None) -> tuple[Tensor, Tensor]:
        """The decision of the paper's test on every weight, by channel and by layer, from the four sums of `row_sums`.

        Shape `(runs,)` each.
        """
        reduction = Reduction(total=self.runs.total, largest=self.runs.largest, where=torch.where)
        views = cosine_views(sums.unbind(), self.elements.to(sums.dtype), self.runs.lengths, projection, reduction)
        return views if votes is None else votes.settle(*views)

    def keep(self, sums: Tensor, projection: Projection, votes: Votes | None = None) -> Tensor:
        """The factor on the weight for every row, from what `row_sums` gave. Shape `(rows,)`."""
        return self.factors(sums, projection, self.views(sums, projection, votes) if len(sums) == 4 else None)

    def factors(
        self,
        sums: Tensor,
        projection: Projection,
        views: tuple[Tensor, Tensor] | None,
        totals: Tensor | None = None,
    ) -> Tensor:
        """The same, from the decision of the test; None where blocks are known.

        Args:
            sums: `ww, wu` or `ww, gg, wg, wu` of every row, `(2 or 4, rows)`.
            projection: Settings of lines 6 to 9.
            views: The decision on every run, by channel and by layer.
            totals: `ww, wu` of every run, `(2, runs)`, where it is more than the rows that are here.
        """
        ends = sums if len(sums) == 2 else sums[::3]
        totals = self.runs.total(ends) if totals is None else totals
        if views is not None:
            by_channel, by_layer = map(self.spread, views)
            layer = self.spread(totals[0]), self.spread(totals[1])
            found = view_radial((ends[0], ends[1]), layer, by_channel, projection, torch.where)
            return torch.where(by_channel | by_layer, projection.keep(found), projection.plain)
        keep = projection.keep(radial(totals[0], totals[1], eps=projection.eps, where=torch.where))
        return self.spread(keep if self.invariant is None else torch.where(self.invariant, keep, projection.plain))


def _lay_out(shapes: Shapes, blocks: Blocks | str, device: torch.device) -> Layout:
    runs = [(shape, run) for shape in shapes for run in _runs(shape, blocks)]
    lengths = [length for _, (length, _) in runs]
    invariant = [yes for _, (_, yes) in runs]
    dim = blocks.dim if isinstance(blocks, Blocks) else 0
    return Layout(
        runs=row_blocks(lengths, device),
        owner=torch.tensor([i for i, length in enumerate(lengths) for _ in range(length)], device=device),
        invariant=None if all(invariant) else torch.tensor(invariant, device=device),
        elements=torch.tensor([float(math.prod(s) // s[dim]) for s, _ in runs], dtype=torch.float64, device=device),
    )


def _runs(shape: tuple[int, ...], blocks: Blocks | str) -> tuple[Run, ...]:
    return blocks.runs(shape) if isinstance(blocks, Blocks) else ((shape[0], True),)


_cached = lru_cache(maxsize=4096)(_lay_out)


def lay_out(shapes: Shapes, blocks: Blocks | str, device: torch.device) -> Layout:
    """The layout of the stacked rows of weights of these shapes; built once: a step copies nothing to a device."""
    if blocks == Blocks(dim=0):
        shapes = shapes[:1]  # each row is its own block, whosever it is
    return _cached(shapes, blocks, device) if keeping() else _lay_out(shapes, blocks, device)

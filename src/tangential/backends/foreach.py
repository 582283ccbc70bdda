"""Many tensors at once: few launches on an accelerator, cache-sized pieces on a CPU.

A span is what one gate decides: on an accelerator all weights of a batch, on a CPU as many small weights as fit the
cache, or one large weight. A piece is what one pass walks: on a CPU a large weight is cut into pieces, so that what one
operation wrote is still in the cache when the next reads it.
"""

# pyright: reportPrivateImportUsage=false
# torch._foreach_* has no public name, but is what torch.optim itself and every optimizer library is built on

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import Batch
from tangential.backends.rows import across, lay_out, row_sums
from tangential.blocks import Blocks
from tangential.precision import lifted

CACHE_ELEMENTS = 1 << 18
"""Elements per piece on a CPU: 1 MiB in float32, small enough for a cache, large enough to hide Python's overhead."""


class Bundle:
    """A list of tensors with arithmetic: one operator is at most one pass of `torch._foreach_*` over the list.

    A number that multiplies is kept aside until an operation takes it along for nothing, as `add(alpha=...)` does.
    """

    def __init__(self, tensors: list[Tensor], factor: float = 1.0) -> None:
        self.bare = tensors
        self.factor = factor

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors, multiplied."""
        return self.bare if self.factor == 1 else list(torch._foreach_mul(self.bare, self.factor))

    def __add__(self, other: Any) -> Bundle:
        if not isinstance(other, Bundle):
            return Bundle(list(torch._foreach_add(self.tensors, other)))
        if self.factor == 1:
            return Bundle(list(torch._foreach_add(self.bare, other.bare, alpha=other.factor)))
        out = self.tensors  # new ones, since they were multiplied
        torch._foreach_add_(out, other.bare, alpha=other.factor)
        return Bundle(out)

    def __mul__(self, other: Any) -> Bundle:
        if isinstance(other, Bundle):
            return Bundle(list(torch._foreach_mul(self.bare, other.bare)), self.factor * other.factor)
        if isinstance(other, Tensor):
            return Bundle(list(torch._foreach_mul(self.bare, other)), self.factor)
        return Bundle(self.bare, self.factor * other)

    def __truediv__(self, other: Bundle) -> Bundle:
        return Bundle(list(torch._foreach_div(self.bare, other.bare)), self.factor / other.factor)

    def __pow__(self, exponent: float) -> Bundle:
        assert exponent == 0.5, "only the root of a second moment is needed"
        return Bundle(list(torch._foreach_sqrt(self.bare)), self.factor**0.5)

    def __rpow__(self, base: float) -> Bundle:
        return Bundle(list(torch._foreach_pow(base, self.tensors)))

    def __rsub__(self, other: float) -> Bundle:
        return self * -1 + other

    def __rtruediv__(self, other: float) -> Bundle:
        return Bundle(list(torch._foreach_reciprocal(self.bare)), other / self.factor)

    def __imul__(self, other: Any) -> Bundle:
        torch._foreach_mul_(self.bare, other.tensors if isinstance(other, Bundle) else other)
        return self

    def __isub__(self, other: Bundle) -> Bundle:
        torch._foreach_add_(self.bare, other.bare, alpha=-other.factor)
        return self


Slice = tuple[int, int, int]
"""`(weight, first row, rows)`."""


class Piece:
    """Slices of weights, their gradients and moments, that are walked together."""

    def __init__(self, batch: Batch, slices: list[Slice]) -> None:
        self.batch = batch
        self.slices = slices
        self.weights = self._cut(batch.weights)
        self.grads = Bundle([lifted(g) for g in self._cut(batch.grads)])
        self.moments = [Bundle(self._cut(moment)) for moment in batch.moments]
        t = Bundle([batch.t[i] for i, *_ in slices]) if isinstance(batch.t, list) else batch.t
        self.rule = batch.rule(t)

    @property
    def rows(self) -> int:
        """Rows of all slices."""
        return sum(rows for *_, rows in self.slices)

    def _cut(self, tensors: list[Tensor]) -> list[Tensor]:
        dim = self.batch.dim
        return [
            tensors[i] if rows == _rows(tensors[i], dim) else tensors[i].narrow(dim, start, rows)
            for i, start, rows in self.slices
        ]

    def advance(self) -> Bundle:
        """Write this step's moments; returns the direction."""
        for old, new in zip(self.moments, self.rule.advance(self.grads, *self.moments), strict=True):
            torch._foreach_copy_(old.bare, new.tensors)
        return self.direction()

    def direction(self) -> Bundle:
        """The direction, from the moments that `advance` wrote."""
        return self.rule.direction(self.grads, *self.moments)

    def sums(self, u: Bundle, blocks: Blocks | str) -> list[Tensor]:
        """The row sums of every slice."""
        triples = zip(self.weights, self.grads.bare, u.bare, strict=True)
        return [row_sums(lifted(w), g, x, blocks, factor=u.factor) for w, g, x in triples]

    def move(self, keep: Any, u: Bundle) -> None:
        """`w <- keep * w - lr * u`; `keep` is a number, or one factor per row of every slice."""
        if isinstance(keep, Tensor) and keep.ndim:
            factors = keep.split([rows for *_, rows in self.slices])
            keep = Bundle([across(k, w, self.batch.dim) for k, w in zip(factors, self.weights, strict=True)])
        w = Bundle([lifted(w) for w in self.weights])
        w *= keep
        w -= u * self.batch.projection.lr
        if w.bare[0] is not self.weights[0]:
            torch._foreach_copy_(self.weights, w.bare)


def foreach(batch: Batch) -> None:
    """Take one step, span by span."""
    for span in _spans(batch):
        pieces = [Piece(batch, slices) for slices in span]
        if batch.blocks is None:
            for piece in pieces:
                piece.move(batch.projection.plain, piece.advance())
        else:
            _step(batch, batch.blocks, pieces)


def _step(batch: Batch, blocks: Blocks | str, pieces: list[Piece]) -> None:
    """Sums of all pieces, one gate, then the change. A single piece keeps its direction, several compute it again."""
    sums: list[Tensor] = []
    kept: Bundle | None = None
    for piece in pieces:
        u = piece.advance()
        sums += piece.sums(u, blocks)
        kept = u if len(pieces) == 1 else None
    slices = pieces[0].slices
    if len(pieces) > 1:  # all of one weight
        shapes = (tuple(batch.weights[slices[0][0]].shape),)
    else:
        shapes = tuple(_shape(batch.weights[i], batch.dim, rows) for i, _, rows in slices)
    layout = lay_out(shapes, blocks, batch.weights[0].device)
    keep = layout.keep(torch.cat(sums, 1), batch.projection, batch.votes_of([i for i, *_ in slices]))
    for piece, factors in zip(pieces, keep.split([piece.rows for piece in pieces]), strict=True):
        piece.move(factors, kept or piece.direction())


def _spans(batch: Batch) -> Iterator[list[list[Slice]]]:
    """Spans of pieces of slices, in the order of the weights but for the large ones, which come when they are met."""
    whole = [(i, 0, _rows(w, batch.dim)) for i, w in enumerate(batch.weights)]
    if batch.weights[0].device.type != "cpu" or torch.compiler.is_compiling():
        yield [whole]
        return
    small: list[Slice] = []
    room = CACHE_ELEMENTS
    for (i, _, rows), w in zip(whole, batch.weights, strict=True):
        if w.numel() > CACHE_ELEMENTS:
            yield from _cuts(batch, i, rows)
            continue
        if w.numel() > room:
            yield [small]
            small, room = [], CACHE_ELEMENTS
        small.append((i, 0, rows))
        room -= w.numel()
    if small:
        yield [small]


def _cuts(batch: Batch, i: int, rows: int) -> Iterator[list[list[Slice]]]:
    """One large weight: a span per piece where blocks end with the pieces, else one span of all pieces."""
    block = _rows_per_block(batch.blocks)
    step = max(1, CACHE_ELEMENTS * rows // batch.weights[i].numel())
    if block:
        step = max(block, step // block * block)
    pieces = [[(i, start, min(step, rows - start))] for start in range(0, rows, step)]
    yield from ([piece] for piece in pieces) if block else [pieces]


def _rows_per_block(blocks: Blocks | str | None) -> int:
    """Rows that have to stay together, or 0 where a weight cannot be cut between its blocks."""
    if blocks is None:
        return 1
    return blocks.size or 0 if isinstance(blocks, Blocks) and blocks.segments is None else 0


def _rows(w: Tensor, dim: int) -> int:
    return w.shape[dim] if w.ndim else 1


def _shape(w: Tensor, dim: int, rows: int) -> tuple[int, ...]:
    return (*w.shape[:dim], rows, *w.shape[dim + 1 :])

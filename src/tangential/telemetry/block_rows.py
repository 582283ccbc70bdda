"""Where a weight's blocks lie: the rows of each, all of them or an even sample, on the device of the weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tangential.blocks import Blocks

CPU_PIECE = 1 << 18
DEVICE_PIECE = 1 << 24
"""Elements that are walked at a time: what a cache holds, or what a device hardly notices."""


@dataclass(frozen=True)
class Cut:
    """The blocks of a weight that are measured.

    Args:
        dim: The dimension that is cut.
        rows: Which of its indices belong to measured blocks; None for all, in order.
        lengths: Rows of each block, `(blocks,)`.
        uniform: The length they share, or None.
        blocks: How many are measured.
    """

    dim: int
    rows: Tensor | None
    lengths: Tensor
    uniform: int | None
    blocks: int

    def total(self, sums: Tensor) -> Tensor:
        """Sum over the rows of each block: `(sums, rows)` to `(sums, blocks)`."""
        if self.uniform is not None:
            return sums.view(len(sums), self.blocks, self.uniform).sum(2)
        return torch.segment_reduce(sums.t().contiguous(), "sum", lengths=self.lengths, axis=0, unsafe=True).t()

    def chosen(self, sums: Tensor) -> Tensor:
        """The measured rows: `(sums, rows of the weight)` to `(sums, measured rows)`."""
        return sums if self.rows is None else sums.index_select(1, self.rows)

    def taken(self, x: Tensor) -> Tensor:
        """A copy of the measured rows of a tensor that looks like the weight."""
        return x.clone() if self.rows is None else x.index_select(self.dim, self.rows)


@lru_cache(maxsize=4096)
def cut(shape: tuple[int, ...], blocks: Blocks, most: int | None, device: torch.device) -> Cut:
    """Cut a weight of this shape; built once, so that later steps copy nothing to a device.

    Args:
        shape: At least one dimension.
        blocks: How to cut it.
        most: How many blocks to measure at most, evenly spaced; None for all of them.
        device: Where the weight lies.
    """
    spans = invariant_spans(shape, blocks)
    kept = spans if most is None or most >= len(spans) else [spans[i * len(spans) // most] for i in range(most)]
    lengths = [stop - start for start, stop in kept]
    everything = sum(lengths) == shape[blocks.dim]
    rows = None if everything else torch.tensor([i for span in kept for i in range(*span)], device=device)
    uniform = lengths[0] if len(set(lengths)) == 1 else None
    return Cut(blocks.dim, rows, torch.tensor(lengths, device=device), uniform, len(kept))


@lru_cache(maxsize=4096)
def invariant_spans(shape: tuple[int, ...], blocks: Blocks) -> tuple[tuple[int, int], ...]:
    """First and last index, plus one, of every block; rows between segments belong to none."""
    spans, at = [], 0
    for length, invariant in blocks.runs(shape):
        if invariant:
            spans.append((at, at + length))
        at += length
    return tuple(spans)


def real(x: Tensor) -> Tensor:
    """The tensor detached, with one dimension at least, and complex numbers as pairs in a last dimension."""
    x = x.detach()
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x if x.ndim else x.reshape(1)


def pieces(dim: int, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """Walk tensors of one shape side by side, as matrices of some rows each: `(some rows, elements of a row)`."""
    rows = tensors[0].shape[dim]
    size = CPU_PIECE if tensors[0].device.type == "cpu" else DEVICE_PIECE
    step = max(1, size * rows // max(1, tensors[0].numel()))
    for start in range(0, rows, step):
        some = min(step, rows - start)
        yield [x.narrow(dim, start, some).movedim(dim, 0).reshape(some, -1) for x in tensors]


def to_float64(x: Tensor) -> Tensor:
    """The tensor in float64, or in float32 on devices that have nothing wider."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def row_dots(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """`a.b` of matching rows of each pair of matrices, `(pairs, rows)`."""
    return torch.stack([(a * b).sum(1) for a, b in pairs])


def elements_per_row(shape: tuple[int, ...], dim: int) -> int:
    """Elements that share one index of the dimension that is cut."""
    return math.prod(shape) // max(1, shape[dim])

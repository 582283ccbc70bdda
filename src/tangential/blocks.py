"""Blocks of a weight that share one scale, and the sums over rows and blocks that every decision is made from.

A weight followed by a normalisation has rows, groups of rows, or a whole, whose length the loss does not depend on.
`Blocks` describes how such a weight is cut along one of its dimensions; the optimizers take the radial part out of each
block. The description is plain Python, so that every backend, and JAX, reads the same one; torch is imported by the
functions that sum, and not before.

A *row* is everything that shares one index of the dimension that is cut, wherever it lies in memory. A block is a run
of consecutive rows, so its dot products are sums of those of its rows, and nothing has to be transposed or gathered:

    weight, gradient   -- row_dots -->   (rows,)   -- RowBlocks.total -->   (blocks,)

`row_dots` reads whole tensors, once, in the order in which they lie; `RowBlocks.total` reads one number per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CPU_CHUNK = 1 << 17
DEVICE_CHUNK = 1 << 24
"""Elements that `chunked_row_dots` walks at a time: temporaries stay in a CPU's cache, and launches on a device few."""

Run = tuple[int, bool]
"""`(consecutive indices, whether they are one scale-invariant block)`."""


@dataclass(frozen=True)
class Blocks:
    """Parts of a weight that may each be rescaled without changing the loss.

    `Blocks()` is the paper's channel view (section 2.1: every output channel), `Blocks(size=None)` its layer view,
    `Blocks(size=64)` attention heads of 64 rows, `Blocks(dim=1)` the channels of a transposed convolution, and
    `Blocks(segments=((0, 1536, 64),))` the query and key heads of a fused projection whose values are not invariant.

    Args:
        dim: The dimension that is cut.
        size: Consecutive indices of `dim` that make one block; None makes the whole weight one block.
        segments: `(start, stop, rows per block)` triples, ascending, for a weight that is cut unevenly. Indices outside
            them are scale-variant. With segments, `size` must keep its default.

    Raises:
        TypeError: A field that is not an integer, or segments that are not triples of them.
        ValueError: Negative or empty cuts, segments out of order or not a whole number of blocks.

    Examples:
        >>> Blocks(size=2).runs((4, 3))
        ((2, True), (2, True))
        >>> Blocks(segments=((1, 3, 1),)).runs((4, 3))
        ((1, False), (1, True), (1, True), (1, False))
    """

    dim: int = 0
    size: int | None = 1
    segments: tuple[tuple[int, int, int], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", _checked_count("dim", self.dim, least=0))
        if self.size is not None:
            object.__setattr__(self, "size", _checked_count("size", self.size, least=1))
        if self.segments is not None:
            if self.size != 1:
                raise ValueError(f"Blocks: size={self.size} beside segments; segments carry their own rows per block")
            object.__setattr__(self, "segments", _checked_segments(self.segments))

    @property
    def plain(self) -> tuple[int, int | None, tuple[tuple[int, int, int], ...] | None]:
        """`(dim, size, segments)`, as state dicts hold it: `Blocks(*plain)` is this again."""
        return self.dim, self.size, self.segments

    def check(self, shape: Sequence[int]) -> None:
        """Raise ValueError unless a weight of this shape can be cut so."""
        shape = tuple(shape)
        if self.dim >= len(shape):
            raise ValueError(f"{self} cuts dimension {self.dim}, but the weight has shape {shape}")
        rows = shape[self.dim]
        if self.segments is not None and self.segments[-1][1] > rows:
            raise ValueError(
                f"{self} reaches index {self.segments[-1][1]}, but dimension {self.dim} of {shape} has {rows}"
            )
        if self.segments is None and self.size is not None and rows % self.size:
            raise ValueError(f"{self} does not divide dimension {self.dim} of {shape} into whole blocks")

    def runs(self, shape: Sequence[int]) -> tuple[Run, ...]:
        """Consecutive runs of `shape[dim]`: the length of each, and whether it is one invariant block."""
        self.check(shape)
        rows = shape[self.dim]
        if self.segments is not None:
            return tuple(_segment_runs(self.segments, rows))
        size = rows if self.size is None else self.size
        return ((size, True),) * (rows // size) if rows else ()

    def smallest(self, shape: Sequence[int]) -> int:
        """Elements of the smallest invariant block of a weight of this shape, which `check` allows.

        Examples:
            >>> Blocks(size=2).smallest((4, 3)), Blocks().smallest((5,))
            (6, 1)
        """
        rows = shape[self.dim] if self.size is None else self.size
        if self.segments is not None:
            rows = min(size for _, _, size in self.segments)
        return rows * math.prod(n for i, n in enumerate(shape) if i != self.dim)

    def spans(self, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """First index, and last plus one, of every invariant block; indices between segments are in none.

        Examples:
            >>> Blocks(segments=((1, 3, 1),)).spans((4, 3))
            ((1, 2), (2, 3))
        """
        spans, at = [], 0
        for length, invariant in self.runs(shape):
            if invariant:
                spans.append((at, at + length))
            at += length
        return tuple(spans)


BlocksSetting = Literal["cosine", "sticky"] | Blocks | None
"""What a parameter group has as `blocks`: the paper's test, its majority, known blocks, or nothing."""


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """Lengths of the blocks that consecutive rows belong to, on the device of the rows.

    Built once per shape and kept, so that a step copies nothing to a device. `row_blocks` makes one.

    Args:
        lengths: Rows of each block, `(blocks,)`.
        uniform: The length that all blocks share, or None. Most weights have one, and a view serves them.
    """

    lengths: Tensor
    uniform: int | None

    def total(self, x: Tensor) -> Tensor:
        """Sums over the rows of each block: `(..., rows)` to `(..., blocks)`."""
        if self.uniform == 1:
            return x
        if self.uniform is not None:
            return x.reshape(*x.shape[:-1], len(self.lengths), self.uniform).sum(-1)
        return self._reduced(x, "sum")

    def largest(self, x: Tensor) -> Tensor:
        """Largest of the rows of each block, NaN if one is: `(..., rows)` to `(..., blocks)`."""
        if self.uniform == 1:
            return x
        if self.uniform is not None:
            return x.reshape(*x.shape[:-1], len(self.lengths), self.uniform).amax(-1)
        return self._reduced(x, "max")

    def _reduced(self, x: Tensor, reduction: str) -> Tensor:
        """Blocks of several lengths. `unsafe` leaves out a check that would wait for the device."""
        import torch

        rows_first = x.movedim(-1, 0).contiguous()
        found = torch.segment_reduce(rows_first, reduction, lengths=self.lengths, axis=0, unsafe=True)
        return found.movedim(0, -1)


def row_blocks(lengths: Sequence[int], device: torch.device | str = "cpu") -> RowBlocks:
    """Blocks of these many consecutive rows each.

    Args:
        lengths: Rows of each block, in order.
        device: Where the rows' numbers lie.

    Examples:
        >>> import torch
        >>> row_blocks([2, 1]).total(torch.tensor([1.0, 2.0, 4.0]))
        tensor([3., 4.])
    """
    import torch

    uniform = lengths[0] if len(set(lengths)) == 1 else None
    return RowBlocks(torch.tensor(lengths, dtype=torch.int64, device=device), uniform)


def row_dots(a: Tensor, b: Tensor, dim: int = 0) -> Tensor:
    """Dot product of every row: the sum of `a * b` over all dimensions but one, `(a.shape[dim],)`.

    Args:
        a: Any layout in memory; a number counts as one row, complex elements as pairs of real ones.
        b: The same shape.
        dim: The dimension that is cut.

    Returns:
        In the dtype of the tensors, and in float32 for half precision.

    Examples:
        >>> import torch
        >>> row_dots(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2, 2), dim=1)
        tensor([4., 6.])
    """
    a, b = _summable(a), _summable(b)
    others = [d for d in range(a.ndim) if d != dim]
    return (a * b).sum(others) if others else a * b


def chunked_row_dots(
    tensors: Sequence[Tensor], pairs: Callable[..., Sequence[tuple[Tensor, Tensor]]], dim: int = 0
) -> Tensor:
    """Dot products per row of what is computed from large tensors, without temporaries of their size.

    Chunks are cut along dimension 0, whatever `dim` is, for that is the outermost one of most weights. Where rows run
    across chunks, the sums of the chunks add up.

    Args:
        tensors: Of one shape.
        pairs: From a chunk of each to the pairs that are multiplied, element by element.
        dim: The dimension that is cut into rows.

    Returns:
        `(pairs, rows)`.

    Examples:
        >>> import torch
        >>> chunked_row_dots([torch.ones(3, 2)], lambda x: [(x, x), (x, x + x)])
        tensor([[2., 2., 2.],
                [4., 4., 4.]])
    """
    import torch

    found = [torch.stack([row_dots(a, b, dim) for a, b in pairs(*chunk)]) for chunk in chunks(tensors)]
    return torch.cat(found, 1) if dim == 0 else torch.stack(found).sum(0)


def chunks(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Views of matching parts of tensors of one shape, cut along dimension 0; one at least, be it empty."""
    tensors = [x if x.ndim else x.reshape(1) for x in tensors]
    size = CPU_CHUNK if tensors[0].device.type == "cpu" else DEVICE_CHUNK
    rows = max(1, size // max(1, tensors[0].numel() // max(1, len(tensors[0]))))
    return zip(*(x.split(rows) for x in tensors), strict=True)


def _summable(x: Tensor) -> Tensor:
    """The tensor with one dimension at least, real, and in float32 at least."""
    if x.is_complex():
        import torch

        x = torch.view_as_real(x.resolve_conj())
        x = x.unsqueeze(0) if x.ndim == 1 else x
    elif not x.ndim:
        x = x.reshape(1)
    return x if x.dtype.itemsize >= 4 else x.float()


def _segment_runs(segments: Sequence[tuple[int, int, int]], rows: int) -> list[Run]:
    """Runs of a weight cut unevenly; every index outside a segment is a variant run of its own."""
    runs: list[Run] = []
    at = 0
    for start, stop, size in segments:
        runs += [(1, False)] * (start - at) + [(size, True)] * ((stop - start) // size)
        at = stop
    return runs + [(1, False)] * (rows - at)


def _checked_segments(segments: Any) -> tuple[tuple[int, int, int], ...]:
    try:
        given = tuple((start, stop, size) for start, stop, size in segments)
    except (TypeError, ValueError):
        raise TypeError(f"Blocks: segments={segments!r} must be (start, stop, rows per block) triples") from None
    if not given:
        raise ValueError("Blocks: segments is empty; use None for a weight that has no invariant block")
    triples: list[tuple[int, int, int]] = []
    at = 0
    for triple in given:
        names = (("segment start", 0), ("segment stop", 1), ("rows per block", 1))
        start, stop, size = (
            _checked_count(name, value, least) for value, (name, least) in zip(triple, names, strict=True)
        )
        if start < at or stop <= start or (stop - start) % size:
            raise ValueError(
                f"Blocks: segment {(start, stop, size)} must start at {at} or later and hold a whole number of blocks"
            )
        triples.append((start, stop, size))
        at = stop
    return tuple(triples)


def _checked_count(name: str, value: Any, least: int) -> int:
    try:
        count = None if isinstance(value, bool) else index(value)
    except TypeError:
        count = None
    if count is None:
        raise TypeError(f"Blocks: {name}={value!r} must be an integer")
    if count < least:
        raise ValueError(f"Blocks: {name}={count} must be at least {least}")
    return count

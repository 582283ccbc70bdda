"""Which parts of a weight share one scale.

A weight followed by a normalisation has rows, groups of rows, or a whole, whose length does not reach the loss.
`Blocks` says how such a weight is cut along one of its dimensions; the optimizers take the radial part out of each
block. The description is plain Python, so that every backend, and JAX, reads the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Run = tuple[int, bool]
"""`(consecutive indices, whether they are one scale-invariant block)`."""


@dataclass(frozen=True)
class Blocks:
    """Which parts of a weight may each be rescaled without changing the loss.

    `Blocks()` is the paper's channel view (section 2.1: every output channel), `Blocks(size=None)` its layer view,
    `Blocks(size=64)` attention heads of 64 rows, `Blocks(dim=1)` the channels of a transposed convolution, and
    `Blocks(segments=((0, 1536, 64),))` the query and key heads of a fused projection whose values are not invariant.

    Args:
        dim: The dimension that is cut.
        size: Consecutive indices of `dim` that make one block; None makes the whole weight one block.
        segments: `(start, stop, rows per block)` triples, ascending, for a weight that is cut unevenly. Indices outside
            them are scale-variant. With segments, `size` must keep its default.

    Raises:
        TypeError: A field that is not the integers asked for.
        ValueError: Negative or empty cuts, segments out of order or not a whole number of blocks.

    Example:
        >>> Blocks(size=2).runs((4, 3))
        ((2, True), (2, True))
        >>> Blocks(segments=((1, 3, 1),)).runs((4, 3))
        ((1, False), (1, True), (1, True), (1, False))
    """

    dim: int = 0
    size: int | None = 1
    segments: tuple[tuple[int, int, int], ...] | None = None

    def __post_init__(self) -> None:
        _check_count("dim", self.dim, least=0)
        if self.size is not None:
            _check_count("size", self.size, least=1)
        if self.segments is not None:
            if self.size != 1:
                raise ValueError(f"Blocks: size={self.size} beside segments; segments carry their own rows per block")
            object.__setattr__(self, "segments", _checked_segments(self.segments))

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
        """Cut `shape[dim]` into consecutive runs: how long each is, and whether it is one invariant block."""
        self.check(shape)
        rows = shape[self.dim]
        if self.segments is not None:
            return tuple(_segment_runs(self.segments, rows))
        size = rows if self.size is None else self.size
        return ((size, True),) * (rows // size) if rows else ()


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
        triples = tuple((start, stop, size) for start, stop, size in segments)
    except (TypeError, ValueError):
        raise TypeError(f"Blocks: segments={segments!r} must be (start, stop, rows per block) triples") from None
    if not triples:
        raise ValueError("Blocks: segments is empty; use None for a weight that has no invariant block")
    at = 0
    for start, stop, size in triples:
        _check_count("segment start", start, least=0)
        _check_count("segment stop", stop, least=1)
        _check_count("rows per block", size, least=1)
        if start < at or stop <= start or (stop - start) % size:
            raise ValueError(
                f"Blocks: segment {(start, stop, size)} must start at {at} or later and hold a whole number of blocks"
            )
        at = stop
    return triples


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Blocks: {name}={value!r} must be an integer")
    if value < least:
        raise ValueError(f"Blocks: {name}={value} must be at least {least}")

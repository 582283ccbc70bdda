"""Cutting of a list of weights for the kernel: runs of rows that are cut alike, pieces that a thread takes, and tasks.

    weight --form--> slabs x rows x cols --runs--> runs --Plan--> pieces --> tasks of about `TASK` elements

A weight of any dense layout is `slabs` times `rows` times `cols` elements in memory, where a row is one index of the
dimension that is cut. Pieces of a run cover every element of it once, whatever the number of threads, so that results
do not depend on it. All of this depends on shapes, strides and blocks alone and is kept from step to step. The numbers
go to `c/table.h` as they stand, in the order of its fields: they are the only lengths that the kernel knows.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from tangential.blocks import Blocks

TASK = 1 << 15
"""Elements of a task: enough to hide the price of handing it out, few enough to share a small model evenly."""

SLICE = 16384
"""Elements of a row that a thread sums in one go; `LONG` in `c/step.c`."""

SLABS = 64
"""Least slabs of a piece whose rows lie apart: each piece keeps sums of every row, which must stay a small part."""

PLAIN, KNOWN, TESTED = range(3)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A dense weight seen along the dimension that is cut: `slabs` times `rows` times `cols` neighbours in memory."""

    slabs: int
    rows: int
    cols: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """Rows of one weight that are cut alike. The fields are those of `run` in `c/table.h`."""

    weight: int
    group: int
    storage: int
    mode: int
    offset: int
    slabs: int
    stride: int
    rows: int
    cols: int
    keeps: int = 0
    sums: int = -1
    piece: int = 0
    pieces: int = 0

    @property
    def spread(self) -> bool:
        """Whether several pieces share a row."""
        return self.mode != PLAIN and (self.slabs > 1 or self.cols > SLICE)

    @property
    def grains(self) -> tuple[int, int]:
        """`(how many, elements of each)` of what a piece counts."""
        if self.slabs > 1:
            return self.slabs, self.rows * self.cols
        if self.mode == PLAIN:
            return self.rows * self.cols, 1
        return (self.rows * math.ceil(self.cols / SLICE), SLICE) if self.spread else (self.rows, self.cols)


def form(shape: Sequence[int], strides: Sequence[int], dim: int) -> Form | None:
    """How a weight lies in memory, or None if it has gaps or overlaps itself.

    Examples:
        >>> form((4, 3, 2), (6, 2, 1), 1)
        Form(slabs=4, rows=3, cols=2)
        >>> form((4, 3), (1, 4), 0)
        Form(slabs=3, rows=4, cols=1)
    """
    outermost_first = sorted((d for d, n in enumerate(shape) if n > 1), key=lambda d: -strides[d])
    neighbours = 1
    for d in reversed(outermost_first):
        if strides[d] != neighbours:
            return None
        neighbours *= shape[d]
    if not shape or shape[dim] == 1:
        return Form(slabs=1, rows=1, cols=neighbours)
    at = outermost_first.index(dim)
    return Form(
        slabs=math.prod(shape[d] for d in outermost_first[:at]),
        rows=shape[dim],
        cols=math.prod(shape[d] for d in outermost_first[at + 1 :]),
    )


def runs(shape: Sequence[int], seen: Form, blocks: Blocks | str | None) -> Iterator[tuple[int, int, Form]]:
    """`(mode, offset, form)` of every run of a weight; in the forms, a row is what has one factor."""
    whole = Form(slabs=1, rows=1, cols=seen.slabs * seen.rows * seen.cols)
    if blocks is None:
        yield PLAIN, 0, whole
        return
    if not isinstance(blocks, Blocks):
        yield TESTED, 0, seen
        return
    at = 0
    for (length, invariant), alike in groupby(blocks.runs(shape)):
        count = sum(1 for _ in alike)
        rows, cols = (count, length * seen.cols) if invariant else (1, count * length * seen.cols)
        all_of_it = rows * cols * seen.slabs == whole.cols
        cut = Form(slabs=seen.slabs, rows=rows, cols=cols)
        yield KNOWN if invariant else PLAIN, at, whole if all_of_it and rows == 1 else cut
        at += count * length * seen.cols


class Plan:
    """Runs, pieces and tasks of a list of weights, as tables of 64-bit integers."""

    def __init__(self, cut: Iterable[Run]) -> None:
        self.keeps = self.sums = 0
        self.runs, self.pieces, self.bounds = array("q"), array("q"), array("q", [0])
        self._waiting = 0
        for at, run in enumerate(cut):
            self._add(at, run)
        if self._waiting:
            self.bounds.append(len(self.pieces) // 3)

    def _add(self, at: int, run: Run) -> None:
        """One run and its pieces. Small pieces share a task."""
        count, size = run.grains
        step = max(1, TASK // size)
        if run.spread and run.slabs > 1:
            step = max(step, SLABS)
        pieces = math.ceil(count / step)
        place = (self.keeps, self.sums if run.spread else -1, len(self.pieces) // 3, pieces)
        self.runs.extend(astuple(run)[:-4] + place)
        self.keeps += run.rows if run.mode == TESTED or run.spread else 0
        if run.spread:
            self.sums += run.rows * pieces if run.slabs > 1 else count
        for first in range(0, count, step):
            self.pieces.extend((at, first, min(step, count - first)))
            self._waiting += min(step, count - first) * size
            if self._waiting >= TASK:
                self.bounds.append(len(self.pieces) // 3)
                self._waiting = 0

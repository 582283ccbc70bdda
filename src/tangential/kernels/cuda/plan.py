"""Pieces of a list of weights, one for each program of a launch.

Everything here depends on shapes, strides and blocks alone, so it is worked out once and kept on the device.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from tangential.kernels.cuda import layout
from tangential.kernels.plan import PLAIN, TESTED, Run

PIECE = 8192
"""Elements of a piece: enough work for a program, few enough that a small model fills the device."""

LONGEST = 8192
"""Elements of a row that one program walks twice, the second time in the cache; longer ones are cut into slices."""

NARROW = 32
"""Elements that lie together in a row that is spread over slabs; below, neighbouring rows are read together instead."""

TILES = {layout.SHORT: 16, layout.MEDIUM: 128, layout.LONG: 1024, layout.LONGER: LONGEST}
"""Longest rows of the tiles that hold whole rows."""

BAND, BAND_SPAN = 32, 256
"""Rows, and elements of each, of a piece whose neighbouring rows are read together."""

GATHERED = 8
"""Rows whose partial sums one program adds up."""


def spread(run: Run) -> bool:
    """Whether several programs share a row."""
    return run.slabs > 1 or run.cols > LONGEST or run.mode == PLAIN


def tile(run: Run) -> int:
    """The tile a run is walked by."""
    if spread(run):
        return layout.ACROSS if run.slabs > 1 and run.cols < NARROW else layout.SLICED
    return next(kind for kind, cols in TILES.items() if run.cols <= cols)


class Cut:
    """Runs and pieces of a list of weights as tables of 64-bit integers, and how much memory a step works in.

    Args:
        runs: The runs; those of a weight that the paper's test decides are one.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.pieces, self.mended, self.gathers, self.tested = (array("q") for _ in range(5))
        self.keeps = self.sums = self.findings = 0
        for at, run in enumerate(runs):
            self._add(at, run)

    def _add(self, at: int, run: Run) -> None:
        kind, parted, first = tile(run), spread(run) and run.mode != PLAIN, self.findings
        span = BAND_SPAN if kind == layout.ACROSS else PIECE
        slices = math.ceil(run.slabs * run.cols / span) if spread(run) else 0
        pieces = self._slices(at, run, kind, slices) if slices else self._rows(at, run, kind)
        self.pieces.extend(pieces)
        if parted or run.mode == TESTED:
            self.mended.extend(pieces)
        if parted:
            for row in range(0, run.rows, GATHERED):
                self.gathers.extend((at, row, 0, self._finding(run)))
        if run.mode == TESTED:
            self.tested.append(at)
        place = (run.weight, kind, run.mode, run.offset, run.slabs, run.stride, run.rows, run.cols)
        even = run.slabs == 1 and run.offset % 16 == 0 and run.cols % 16 == 0
        found = (first, self.findings - first)
        self.runs.extend((*place, self.keeps, self.sums, slices, span, *found, int(even)))
        self.keeps += run.rows if parted or run.mode == TESTED else 0
        self.sums += run.rows * slices if parted else 0

    def _finding(self, run: Run) -> int:
        """The place of one more finding, for runs under the paper's test."""
        self.findings += run.mode == TESTED
        return self.findings - 1

    def _rows(self, at: int, run: Run, kind: int) -> list[int]:
        step = PIECE // TILES[kind]
        counts = [(row, min(step, run.rows - row)) for row in range(0, run.rows, step)]
        return [x for row, count in counts for x in (at, row, count, self._finding(run))]

    @staticmethod
    def _slices(at: int, run: Run, kind: int, slices: int) -> list[int]:
        rows = range(0, run.rows, BAND if kind == layout.ACROSS else 1)
        return [x for row in rows for part in range(slices) for x in (at, row, part, 0)]

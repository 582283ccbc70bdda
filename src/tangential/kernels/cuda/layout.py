"""Columns of the tables that the launches share with the host, and the numbers of modes and tiles.

Every table is 64-bit integers, since a Triton kernel can turn one into a pointer. Nothing here needs Triton.
"""

from __future__ import annotations

WEIGHT, GRAD, FIRST, SECOND, STEP, PREVIOUS, VOTES, REMAINDER, GROUP, ALIGNED, ADDRESSES = range(11)
"""Rows of the table of weights, one column per weight, and how many rows there are.

`PREVIOUS` is the address of the last decision, which `decide` overwrites with the new one.
"""

OWNER, TILE, MODE, OFFSET, SLABS, STRIDE, ROWS, COLS, KEEPS, SUMS, SLICES, SPAN, FOUND, FINDINGS, EVEN, RUN = range(16)
"""Columns of the table of runs, and how many there are.

The weight, the tile it is walked by, the mode, and where it lies, as `plan.Run` says; then where the factors and the
partial sums of its rows begin; into how many slices of how many elements a row is cut; where what is found
about it begins and how many findings there are; and whether its rows begin and end at multiples of 16 elements.
"""

RUN_OF, ROW, PART, FINDING, PIECE = range(5)
"""Columns of the list of pieces: its run, its first row, how many rows or which slice, and where it notes findings."""

B1, O1, B2, O2, N1, N2, EPS, RATE, PLAINLY, REDUCED, LEAST, DELTA, UNSCALE, WHOLE, NUMBERS = range(15)
"""The numbers of a weight at this step: those of `numbers` in `c/table.h`, then those of the factor and of the test,
what undoes the scale of the gradient, and the factor under the layer view."""

PREDICTED, DECISION, STALE, STATE = range(4)
"""Integers of a weight during a step: the view its rows are moved by at first, the decision, whether to repair."""

SHORT, MEDIUM, LONG, LONGER, SLICED, ACROSS = range(6)
"""How a run is walked: whole rows of at most 16, 128, 1024 and 8192 elements, slices of rows, rows side by side."""

NOTES = 6
"""Floats of a finding: the sums ww, gg, wg, wu, not 0 where a row is not orthogonal, or waits."""

SETTINGS = 10
"""Floats of a parameter group: the fields of `group` in `c/table.h`."""

"""Data of the layer explorer: each weight of each run over epochs, of bounded size whatever the runs are.

All epochs of any run together are cut into at most `COLUMNS` stretches, fewer if there are many weights and runs, so
that all runs together have about `NUMBERS` numbers. A run's epochs within a stretch become one column: the last norm,
the mean of anything else. Of a network with more weights than fit, as many as do are shown, evenly spread over it. The
page notes what was merged or left out. Values are written with five digits, more than a screen shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.layers import FIGURES, Layers
from tangential.experiments.report.series import Array, stretches
from tangential.experiments.report.values import finite_or_none

NUMBERS = 500_000
COLUMNS, FEWEST_COLUMNS = 120, 12

# `log`: the axis of the curves; `ratio`: the colours, where equal ratios look equally far apart
_SHOWN = (
    {"key": "norm", "title": "Norm", "axis": "norm |w|", "log": False, "ratio": True},
    {
        "key": "effective_step",
        "title": "Effective step",
        "axis": "effective step |Δ(w/|w|)|",
        "log": True,
        "ratio": True,
    },
    {"key": "angle", "title": "Angle", "axis": "angle per step (rad)", "log": True, "ratio": True},
    {"key": "radial_fraction", "title": "Radial fraction", "axis": "radial fraction", "log": False, "ratio": False},
    {"key": "projected", "title": "Projected", "axis": "share of steps", "log": False, "ratio": False},
)


@dataclass(frozen=True)
class _Watched:
    """Telemetry of one run of a group."""

    group: str
    seed: int
    layers: Layers


def explorer(comparison: Comparison) -> dict[str, Any] | None:
    """Telemetry of all runs as JSON for the page; None if there is none.

    Returns:
        `unit`, `names`, `about` (a line per weight), `figures`, `runs` with `group`, `seed`, `x` and
        `values[figure][weight][column]`, and `notes`.
    """
    runs = [
        _Watched(group.label, seed, run.layers)
        for group in comparison.groups
        for seed, run in sorted(group.runs.items())
        if run.layers is not None and run.layers.names
    ]
    units = {run.layers.unit for run in runs}
    if not runs:
        return None
    if len(units) > 1:
        runs = [run for run in runs if run.layers.unit == "epoch"]
    about = {
        name: text for run in reversed(runs) for name, text in zip(run.layers.names, run.layers.about, strict=True)
    }
    names, grid, starts = _extent(runs)
    return {
        "unit": runs[0].layers.unit,
        "names": names,
        "about": [about[name] for name in names],
        "figures": [figure for figure in _SHOWN if _there(runs, figure["key"])],
        "runs": [_run(run, names, grid, starts) for run in runs],
        "notes": _notes(runs, names, grid, starts, mixed=len(units) > 1),
    }


def _extent(runs: Sequence[_Watched]) -> tuple[list[str], Array, Array]:
    """The weights that are shown, every epoch of any run, and at which of these the columns begin."""
    names = list(dict.fromkeys(name for run in runs for name in run.layers.names))
    per_column = len(FIGURES) * len(runs)
    kept = stretches(len(names), max(NUMBERS // (per_column * FEWEST_COLUMNS), 1))
    grid = np.unique(np.concatenate([run.layers.x for run in runs]))
    columns = min(COLUMNS, max(NUMBERS // (per_column * max(len(kept), 1)), FEWEST_COLUMNS))
    return [names[place] for place in kept], grid, stretches(len(grid), columns)


def _run(run: _Watched, names: Sequence[str], grid: Array, starts: Array) -> dict[str, Any]:
    """One run's columns: those stretches of the grid in which it has an epoch, and those between them."""
    layers, ends = run.layers, np.append(starts[1:], len(grid))
    stretch = np.searchsorted(grid[starts], layers.x, side="right") - 1  # of each of its own epochs; increasing
    reached = int(stretch[-1]) + 1
    place = {name: row for row, name in enumerate(layers.names)}
    rows = np.array([place.get(name, -1) for name in names])
    shown = [figure for figure in FIGURES if np.isfinite(layers.values[figure][rows[rows >= 0]]).any()]
    return {
        "group": run.group,
        "seed": run.seed,
        "x": np.minimum(grid[ends - 1], layers.x[-1])[:reached].tolist(),
        "values": {
            figure: [finite_or_none(row, 5) for row in _merged(figure, layers.values[figure], rows, stretch, reached)]
            for figure in shown
        },
    }


def _merged(figure: str, values: Array, rows: Array, stretch: Array, columns: int) -> Array:
    """`(weights, epochs)` -> `(rows, columns)`; NaN where this run has no such weight (row -1) or no epoch."""
    table = np.full((len(rows), columns), np.nan)
    there = np.flatnonzero(rows >= 0)
    values = values[rows[there]]
    finite = np.isfinite(values)
    begins = np.flatnonzero(np.diff(stretch, prepend=-1))  # where this run's epochs enter another stretch
    own = stretch[begins]
    if figure == "norm":
        last = np.maximum.accumulate(np.where(finite, np.arange(values.shape[1]), -1), axis=1)
        at = last[:, np.append(begins[1:], values.shape[1]) - 1]
        merged = np.where(at >= begins, np.take_along_axis(values, np.maximum(at, 0), axis=1), np.nan)
    else:
        count = np.add.reduceat(finite, begins, axis=1, dtype=np.int64)
        total = np.add.reduceat(np.where(finite, values, 0.0), begins, axis=1)
        merged = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    table[np.ix_(there, own)] = merged
    return table


def _there(runs: Sequence[_Watched], figure: str) -> bool:
    return any(np.isfinite(run.layers.values[figure]).any() for run in runs)


def _notes(runs: Sequence[_Watched], names: Sequence[str], grid: Array, starts: Array, *, mixed: bool) -> list[str]:
    """What is not shown as it was logged, in words."""
    every, unit = len({name for run in runs for name in run.layers.names}), runs[0].layers.unit
    notes = []
    if len(names) < every:
        notes.append(f"{len(names)} of the {every} weights are shown, evenly spread over the network.")
    if len(starts) < len(grid):
        notes.append(f"{len(grid)} {unit}s are merged into {len(starts)} columns: the last norm, the mean of all else.")
    if mixed:
        notes.append("Runs whose telemetry has no epochs are left out here.")
    return notes

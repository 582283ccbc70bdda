"""The layer explorer's data: each weight of each run over epochs, within a bound whatever the runs are.

Values are written with five digits. A run of many epochs has neighbouring ones merged into at most `COLUMNS` columns,
fewer if there are many weights and runs, so that all runs together have about `NUMBERS` numbers; and of a network with
more weights than fit, as many as do are shown, evenly spread over it. What was merged or left out is said on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.layers import FIGURES, Layers
from tangential.experiments.report.series import Array, stretches

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
    """The weights of one run of a group."""

    group: str
    seed: int
    layers: Layers


def explorer(comparison: Comparison) -> dict[str, Any] | None:
    """Gather the weights of all runs that were watched, as JSON for the page; None if none was.

    Returns:
        `unit`, `names`, `about` (a line per weight), `figures`, `runs` with `group`, `seed`, `x` and
        `values[figure][weight][column]`, and `notes`.
    """
    runs = [
        _Watched(group.label, seed, run.layers)
        for group in comparison.groups
        for seed, run in sorted(group.runs.items())
        if run.layers is not None
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
    ends = np.append(starts[1:], len(grid))
    values = {figure: _on_grid(run.layers, figure, names, grid) for figure in FIGURES}
    merged = {
        figure: [_merged(figure, table[:, a:b]) for a, b in zip(starts, ends, strict=True)]
        for figure, table in values.items()
        if np.isfinite(table).any()
    }
    reached = int(np.searchsorted(grid[starts], run.layers.x[-1], side="right"))
    return {
        "group": run.group,
        "seed": run.seed,
        "x": np.minimum(grid[ends - 1], run.layers.x[-1])[:reached].tolist(),
        "values": {figure: _json(np.stack(columns[:reached], axis=1)) for figure, columns in merged.items()},
    }


def _on_grid(layers: Layers, figure: str, names: Sequence[str], grid: Array) -> Array:
    """`(names, grid)`; NaN where this run has no such weight or no such epoch."""
    table = np.full((len(names), len(grid)), np.nan)
    place = {name: row for row, name in enumerate(layers.names)}
    there = [row for row, name in enumerate(names) if name in place]
    columns = np.searchsorted(grid, layers.x)
    table[np.array(there, dtype=int)[:, None], columns] = layers.values[figure][[place[names[row]] for row in there]]
    return table


def _merged(figure: str, stretch: Array) -> Array:
    """`(names, epochs)` -> `(names,)`: the last norm, the mean of anything else."""
    there = np.isfinite(stretch)
    if figure == "norm":
        last = stretch.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        return stretch[np.arange(len(stretch)), last]
    total, count = np.where(there, stretch, 0.0).sum(axis=1), there.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _json(table: Array) -> list[list[float | None]]:
    """Five digits are more than a screen shows; JSON has no NaN."""
    return [[float(f"{value:.5g}") if np.isfinite(value) else None for value in row] for row in table.tolist()]


def _there(runs: Sequence[_Watched], figure: str) -> bool:
    return any(np.isfinite(run.layers.values[figure]).any() for run in runs)


def _notes(runs: Sequence[_Watched], names: Sequence[str], grid: Array, starts: Array, *, mixed: bool) -> list[str]:
    """What is not shown as it was logged."""
    every, unit = len({name for run in runs for name in run.layers.names}), runs[0].layers.unit
    notes = []
    if len(names) < every:
        notes.append(f"{len(names)} of the {every} weights are shown, evenly spread over the network.")
    if len(starts) < len(grid):
        notes.append(f"{len(grid)} {unit}s are merged into {len(starts)} columns: the last norm, the mean of all else.")
    if mixed:
        notes.append("Runs whose telemetry has no epochs are left out here.")
    return notes

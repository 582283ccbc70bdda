"""Telemetry of one run, `telemetry.jsonl`, as a table of weights by epochs.

norm              |w|, at the last logged step of the epoch
effective_step    |Δ(w/|w|)| per step, mean over the epoch's logged steps, as are those below
angle             angle in radians by which a step turns w
radial_fraction   share of an update that is along w: |radial| / sqrt(radial² + tangential²), from 0 to 1
projected         share of the logged steps in which the update was projected
equilibrium       angle per step at which decay and updates balance, in radians

A line of the file is a logged step with seven numbers per weight. While the file is read these become entries: flat
arrays of (line, weight, numbers), because any line may have other weights than the one before. Then every entry is
assigned to a cell (column, weight), where a column is an epoch, or a step if the training had no epochs, and one
`bincount` per figure sums the entries of all cells. Each pass is linear in the size of the file.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tangential.experiments.report.series import Array, stretches
from tangential.experiments.report.values import LARGEST, is_count
from tangential.experiments.runs.files import corrupt
from tangential.telemetry.json_lines import json_lines

FIGURES = ("norm", "effective_step", "angle", "radial_fraction", "projected", "equilibrium")

ENTRIES = 5_000_000
"""Most entries, lines times weights, that are read; 200 lines of 10,000 weights have 2 million."""

CELLS = 4_000_000
"""Most cells, columns times weights; of more, neighbouring columns are merged."""

_SUMMED_UP = ("norm", "effective_step", "angle")
_REQUIRED = _SUMMED_UP
_OPTIONAL = ("radial_update", "tangential_update", "projected", "equilibrium_angle")
_WIDTH = len(_REQUIRED) + len(_OPTIONAL)
_ABSENT = (math.nan,) * len(_SUMMED_UP)


@dataclass(frozen=True)
class Layers:
    """The weights of one run.

    Args:
        unit: What `x` counts: `epoch`, or `step` where the training had no epochs.
        x: The epochs or steps, `(columns,)`, increasing.
        names: The weights, in the model's order.
        about: Kind and number of blocks of each weight, or an empty text.
        values: Figure -> `(layers, columns)`, NaN where nothing was logged.
        medians: Figure -> `(columns,)`, the median over all weights, for those of norm, effective step and angle.
    """

    unit: str
    x: Array
    names: tuple[str, ...]
    about: tuple[str, ...]
    values: dict[str, Array]
    medians: dict[str, Array]


@dataclass
class _Entries:
    """What was read so far: `line`, `weight` and seven `numbers` per entry; `steps`, `epochs`, `medians` per line."""

    line: array[int] = field(default_factory=lambda: array("q"))
    weight: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    steps: list[int] = field(default_factory=list)
    epochs: list[int | None] = field(default_factory=list)
    medians: list[tuple[float, ...]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    about: list[str] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line; KeyError, TypeError or ValueError if it is not a step's telemetry."""
        step, epoch, weights = record["step"], record.get("epoch"), record["weights"]
        if not is_count(step) or not (epoch is None or is_count(epoch)):
            raise TypeError("step or epoch is no integer")
        for name, figures in weights.items():
            self.numbers.extend(_numbers(figures))
            self.line.append(len(self.steps))
            self.weight.append(self._place(name, figures))
        self.medians.append(_medians_in(record.get("summary")))
        self.steps.append(step)
        self.epochs.append(epoch)
        if len(self.line) > ENTRIES:
            raise ValueError(f"more than {ENTRIES:,} entries")

    def _place(self, name: str, figures: Mapping[str, Any]) -> int:
        place = self.places.setdefault(name, len(self.places))
        if place == len(self.about):
            self.about.append(_about(figures))
        return place


def read(path: Path) -> Layers | None:
    """Read the telemetry of a run.

    A last line that was cut off by a kill does not count. Of a step that was logged twice, because the run was resumed
    from a checkpoint before it, the later line counts.

    Returns:
        The weights by epoch; None if there is no file, or no step in it.

    Raises:
        ValueError: A line is broken, or there are too many.
    """
    entries = _Entries()
    number = 0
    try:
        for number, record, _ in json_lines(path):
            _add(entries, number, record)
    except ValueError as error:
        raise corrupt(path, str(error)) from error
    return _gathered(entries) if number else None


def _add(entries: _Entries, number: int, record: Any) -> None:
    try:
        entries.add(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"line {number} is not a step's telemetry") from error


def _numbers(weight: Mapping[str, Any]) -> Iterator[float]:
    yield from (_number(weight[name]) for name in _REQUIRED)
    yield from (_number(weight.get(name)) for name in _OPTIONAL)


def _number(value: Any) -> float:
    """A number; NaN for null, which stands for what is not finite or not known, and for what no measurement can be."""
    if value is None:
        return math.nan
    if not isinstance(value, float | int):
        raise TypeError("not a number")
    return float(value) if -LARGEST <= value <= LARGEST else math.nan


def _medians_in(summary: Any) -> tuple[float, ...]:
    """The medians over all weights as a line has them; NaN where it has none."""
    if not summary:
        return _ABSENT
    return tuple(_number(summary[figure]["median"]) if figure in summary else math.nan for figure in _SUMMED_UP)


def _about(weight: Mapping[str, Any]) -> str:
    kind, blocks = weight.get("kind"), weight.get("blocks")
    words = [kind] if kind and isinstance(kind, str) else []
    words += [f"{blocks} block{'s' if blocks > 1 else ''}"] if is_count(blocks) and blocks > 0 else []
    return ", ".join(words)


def _gathered(entries: _Entries) -> Layers:
    """Sum the entries of each cell; a step that was logged again is dropped first."""
    lines = np.array(sorted({step: line for line, step in enumerate(entries.steps)}.values()))  # the later line stays
    lines = lines[np.argsort(np.array(entries.steps)[lines], kind="stable")]
    by_epoch = all(entries.epochs[line] is not None for line in lines)
    labels = np.array([entries.epochs[line] if by_epoch else entries.steps[line] for line in lines])
    order = np.argsort(labels, kind="stable")  # increasing steps within an epoch
    lines, (x, column) = lines[order], np.unique(labels[order], return_inverse=True)
    x, column = _merged_columns(x, column, len(entries.places))

    place = np.full(len(entries.steps), -1)  # line -> its place in the order of steps, -1 for a dropped one
    place[lines] = np.arange(len(lines))
    line, weight = place[np.array(entries.line, dtype=int)], np.array(entries.weight, dtype=int)
    numbers = np.array(entries.numbers).reshape(-1, _WIDTH)
    kept = np.flatnonzero(line >= 0)
    kept = kept[np.argsort(line[kept], kind="stable")]
    line, weight, figures = line[kept], weight[kept], _figures(numbers[kept])

    shape = (len(x), len(entries.places))
    values = _per_cell(column[line] * shape[1] + weight, figures, shape[0] * shape[1])
    medians = np.stack([_median_per_line(line, of, len(lines)) for of in figures[: len(_SUMMED_UP)]])
    own = np.array(entries.medians)[lines].T
    medians = _per_cell(column, np.where(np.isnan(own), medians, own), len(x))
    return Layers(
        unit="epoch" if by_epoch else "step",
        x=x,
        names=tuple(entries.places),
        about=tuple(entries.about),
        values={name: of.reshape(shape).T for name, of in zip(FIGURES, values, strict=True)},
        medians=dict(zip(_SUMMED_UP, medians, strict=True)),
    )


def _merged_columns(x: Array, column: Array, weights: int) -> tuple[Array, Array]:
    """Columns merged into at most `CELLS / weights`, each labelled with its last epoch or step."""
    most = max(CELLS // max(weights, 1), 1)
    if len(x) <= most:
        return x, column
    starts = stretches(len(x), most)
    return x[np.append(starts[1:], len(x)) - 1], np.searchsorted(starts, column, side="right") - 1


def _figures(numbers: Array) -> list[Array]:
    """`(entries, 7)` as in the file -> an array per figure."""
    norm, step, angle, radial, tangential, projected, equilibrium = numbers.T
    length = np.hypot(radial, tangential)
    fraction = np.divide(np.abs(radial), length, out=np.full_like(length, math.nan), where=length > 0)
    return [norm, step, angle, fraction, projected, equilibrium]


def _per_cell(cell: Array, figures: Any, cells: int) -> list[Array]:
    """Last value of the first figure, mean of each other, over the entries of every cell; NaN where there is none."""
    norm, *others = figures
    last = np.full(cells, math.nan)
    last[cell] = norm  # entries are in the order of steps, and the last assignment counts
    return [last, *(_mean_per_cell(cell, figure, cells) for figure in others)]


def _mean_per_cell(cell: Array, figure: Array, cells: int) -> Array:
    there = np.isfinite(figure)
    count = np.bincount(cell[there], minlength=cells)
    total = np.bincount(cell[there], weights=figure[there], minlength=cells)
    return np.divide(total, count, out=np.full(cells, math.nan), where=count > 0)


def _median_per_line(line: Array, figure: Array, lines: int) -> Array:
    """Median of the finite values of each line, by sorting all values within their lines at once."""
    there = np.isfinite(figure)
    line, figure = line[there], figure[there]
    figure = figure[np.lexsort((figure, line))]
    count = np.bincount(line, minlength=lines)
    start = np.cumsum(count) - count
    some = np.flatnonzero(count)
    low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
    medians = np.full(lines, math.nan)
    medians[some] = (figure[low] + figure[high]) / 2
    return medians

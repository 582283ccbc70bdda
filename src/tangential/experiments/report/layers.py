"""What each weight of one run did: `telemetry.jsonl`, gathered by epoch.

norm              |w|, at the last logged step of the epoch
effective_step    |Δ(w/|w|)| per step, mean over the epoch's logged steps, as are those below
angle             the angle in radians by which a step turns w
radial_fraction   the share of an update that is along w: |radial| / sqrt(radial² + tangential²), from 0 to 1
projected         the share of the logged steps in which the update was projected
equilibrium       the angle per step at which decay and updates would balance, in radians
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tangential.experiments.report.series import Array
from tangential.experiments.runs.files import corrupt
from tangential.telemetry.json_lines import json_lines

FIGURES = ("norm", "effective_step", "angle", "radial_fraction", "projected", "equilibrium")

_LAST = FIGURES.index("norm")
_SUMMED_UP = ("norm", "effective_step", "angle")


@dataclass(frozen=True)
class Layers:
    """The weights of one run.

    Args:
        unit: What `x` counts: `epoch`, or `step` where the training knew no epochs.
        x: The epochs or steps, `(columns,)`, increasing.
        names: The weights, in the model's order.
        about: What is said of each weight: its kind and number of blocks, or nothing.
        values: Figure -> `(layers, columns)`, NaN where nothing was logged.
        medians: Figure -> `(columns,)`, the median over all weights, for those of norm, effective step and angle.
    """

    unit: str
    x: Array
    names: tuple[str, ...]
    about: tuple[str, ...]
    values: dict[str, Array]
    medians: dict[str, Array]


@dataclass(frozen=True)
class _Step:
    """One logged step: `(figures, layers)` of the weights known so far, and the medians over all."""

    epoch: int | None
    table: Array
    medians: tuple[float, ...]


def read(path: Path) -> Layers | None:
    """Read the telemetry of a run.

    A last line that was cut off by a kill does not count, and of a step that was logged twice, because the run went on
    from a checkpoint before it, the later line does.

    Returns:
        The weights by epoch; None if there is no file, or no step in it.

    Raises:
        ValueError: A line is broken.
    """
    if not path.exists():
        return None
    about: dict[str, str] = {}
    steps: dict[int, _Step] = {}
    for number, record in _records(path):
        try:
            steps[int(record["step"])] = _step(record, about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise corrupt(path, f"line {number} is not a step's telemetry") from error
    return _gathered([steps[step] for step in sorted(steps)], sorted(steps), about) if steps else None


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line number, record)`; line by line, because the file may be large."""
    try:
        yield from ((number, record) for number, record, _ in json_lines(path))
    except ValueError as error:
        raise corrupt(path, str(error)) from error


def _step(record: Mapping[str, Any], about: dict[str, str]) -> _Step:
    """Read one step; weights that were not seen before are added to `about`."""
    weights = record["weights"]
    for name, figures in weights.items():
        if name not in about:
            about[name] = _about(figures)
    nothing = (math.nan,) * len(FIGURES)
    rows = [_figures(weights[name]) if name in weights else nothing for name in about]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(FIGURES)).T
    epoch = record.get("epoch")
    return _Step(None if epoch is None else int(epoch), table, _medians(record.get("summary") or {}, table))


def _figures(weight: Mapping[str, Any]) -> tuple[float, ...]:
    radial, tangential = _number(weight.get("radial_update")), _number(weight.get("tangential_update"))
    length = math.hypot(radial, tangential)
    return (
        _number(weight["norm"]),
        _number(weight["effective_step"]),
        _number(weight["angle"]),
        abs(radial) / length if length > 0 else math.nan,
        _number(weight.get("projected")),
        _number(weight.get("equilibrium_angle")),
    )


def _number(value: Any) -> float:
    """JSON has no NaN: null stands for what is not finite or not known."""
    return math.nan if value is None else float(value)


def _medians(summary: Mapping[str, Any], table: Array) -> tuple[float, ...]:
    """The medians over all weights as the file has them, or of the weights that it lists."""
    own = [table[FIGURES.index(figure)] for figure in _SUMMED_UP]
    return tuple(
        _number(summary[figure]["median"]) if figure in summary else _mean(np.median, values[np.isfinite(values)])
        for figure, values in zip(_SUMMED_UP, own, strict=True)
    )


def _mean(function: Any, values: Array) -> float:
    return float(function(values)) if len(values) else math.nan


def _about(weight: Mapping[str, Any]) -> str:
    kind, blocks = weight.get("kind"), weight.get("blocks")
    said = [str(kind)] if kind else []
    said += [f"{blocks} block{'s' if blocks > 1 else ''}"] if isinstance(blocks, int) and blocks > 0 else []
    return ", ".join(said)


def _gathered(steps: list[_Step], numbers: list[int], about: dict[str, str]) -> Layers:
    """Steps into epochs, or each on its own if one of them has no epoch."""
    by_epoch = all(step.epoch is not None for step in steps)
    labels = np.array([step.epoch if by_epoch else number for step, number in zip(steps, numbers, strict=True)])
    cube = np.full((len(steps), len(FIGURES), len(about)), np.nan)
    for place, step in enumerate(steps):
        cube[place, :, : step.table.shape[1]] = step.table
    x = np.unique(labels)
    columns = [_column(cube[labels == label]) for label in x]
    medians = np.stack([_nanmean(np.array([s.medians for s in steps])[labels == label]) for label in x], axis=1)
    medians[_LAST] = [np.array([s.medians[_LAST] for s in steps])[labels == label][-1] for label in x]
    values = np.stack(columns, axis=2)
    return Layers(
        unit="epoch" if by_epoch else "step",
        x=x,
        names=tuple(about),
        about=tuple(about.values()),
        values=dict(zip(FIGURES, values, strict=True)),
        medians=dict(zip(_SUMMED_UP, medians, strict=True)),
    )


def _column(steps: Array) -> Array:
    """`(steps, figures, layers)` of one epoch -> `(figures, layers)`."""
    column = _nanmean(steps)
    column[_LAST] = steps[-1, _LAST]
    return column


def _nanmean(values: Array) -> Array:
    """The mean over the first dimension of what is not NaN; NaN without a warning where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

"""Measures of retrained runs: time to a target, probability of improvement, and what steps projected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import fmean, median
from typing import Any

import numpy as np

from tangential.experiments.runs.folder import RunFolder
from tangential.invariances import Invariances
from tangential.telemetry.json_lines import json_lines

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Reached:
    """Time until a run's score is at the target, at the end of an epoch; infinite for one that never is."""

    steps: float
    seconds: float


def time_to(records: Sequence[Mapping[str, Any]], score: str, target: float, *, sign: int, steps: int) -> Reached:
    """Steps, and seconds of forward, backward and update, until a score is at least as good as a target.

    Args:
        records: A run's epochs.
        score: Name of the score in them.
        target: What is to be reached.
        sign: 1 where more is better, -1 where less is.
        steps: Steps of an epoch.

    Examples:
        >>> epochs = [{"test_a": 0.5, "ms_per_step": 2.0}, {"test_a": 0.9, "ms_per_step": 2.0}]
        >>> time_to(epochs, "test_a", 0.8, sign=1, steps=100)
        Reached(steps=200, seconds=0.4)
    """
    seconds = 0.0
    for number, record in enumerate(records, start=1):
        seconds += steps * record["ms_per_step"] / 1000
        if sign * record[score] >= sign * target:
            return Reached(number * steps, seconds)
    return Reached(inf, inf)


def middle(values: Iterable[float]) -> float:
    """Median over runs, infinite where half of them are; NaN of none.

    Examples:
        >>> middle([1.0, inf, inf, 3.0])
        inf
    """
    found = sorted(values)
    return median(found) if found and found[len(found) // 2] < inf else inf if found else nan


def probability_of_improvement(ours: Values, theirs: Values, *, sign: int = 1) -> float:
    """How often a run of ours scores better than one of theirs, whatever their seeds; a tie counts half.

    Examples:
        >>> probability_of_improvement([1.0, 3.0], [1.0, 2.0])
        0.625
    """
    gaps = sign * (np.subtract.outer(ours, theirs))
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def projected_shares(folders: Iterable[RunFolder]) -> dict[str, float]:
    """Share of recorded steps that were projected: of the scale-invariant weights, and of the others.

    Returns:
        `invariant` and `others`, mean over weights, steps and runs; without those of which nothing is recorded.
    """
    taken: dict[str, list[float]] = {"invariant": [], "others": []}
    for folder in folders:
        if not (folder.telemetry.exists() and folder.invariances.exists()):
            continue
        known = Invariances.from_json(folder.invariances.read_text("utf-8"))
        for _, record, _ in json_lines(folder.telemetry):
            for name, figures in record["weights"].items():
                if figures.get("projected") is not None:
                    taken["others" if known[name] is None else "invariant"].append(figures["projected"])
    return {kind: fmean(values) for kind, values in taken.items() if values}

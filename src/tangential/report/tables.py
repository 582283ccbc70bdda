"""The table of a comparison: scores over seeds, paired differences, norms and effective steps, first and last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import mean, stdev

import numpy as np

from tangential.report.groups import Comparison, Group
from tangential.task import Headline

_COLUMNS = ("difference", "weight norm", "effective step", "ms/step")

_CAPTION = (
    "Score: on the test set after the last epoch, mean ± standard deviation over seeds. "
    "Difference: to the baseline, seed by seed, in the score's unit, mean ± standard deviation, "
    "and a 95 % interval for the mean (bootstrap over the seeds). "
    "Weight norm: mean |w| over the weights with more than one dimension, after the first → after the last epoch. "
    "Effective step: how far one step moves w/|w|, mean over these weights and the steps of the first → last epoch. "
    "Ms/step: forward, backward and update, median over epochs, mean over seeds."
)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a few values; NaN deviation if there is only one."""

    mean: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return Spread(mean(values), stdev(values) if len(values) > 1 else nan)


@dataclass(frozen=True)
class Difference:
    """How much better a projected optimizer is than its baseline, seed by seed, and a 95 % interval for the mean."""

    spread: Spread
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One optimizer's line: scores and differences as shown, `(first, last)` norms and steps, milliseconds."""

    label: str
    seeds: int
    score: Spread
    difference: Difference | None
    norm: tuple[float, float]
    step: tuple[float, float]
    ms_per_step: float


def headings(comparison: Comparison) -> tuple[str, ...]:
    """Name the columns; the score's is the task's own, or `score` where tasks with different ones are compared."""
    labels = {headline(group).label for group in comparison.groups}
    return ("optimizer", labels.pop() if len(labels) == 1 else "score", *_COLUMNS)


def headline(group: Group) -> Headline:
    """Say which score a group's comparison is about."""
    return Headline(**group.settings["headline"])


def rows(comparison: Comparison) -> list[Row]:
    """Summarise each group of a comparison in a row, in its order."""
    baselines = {projected.label: baseline for baseline, projected in comparison.pairs()}
    return [_row(group, baselines.get(group.label)) for group in comparison.groups]


def caption(rows: Sequence[Row]) -> str:
    """Say how many seeds there are and what the columns mean.

    Example:
        >>> caption([Row("sgd", 2, Spread(99.0, 0.1), None, (3.4, 5.2), (0.04, 3e-5), 2.7)])[:15]
        'Seeds: 2 each. '
    """
    counts = {row.seeds for row in rows}
    seeds = f"{counts.pop()} each" if len(counts) == 1 else ", ".join(f"{row.label} {row.seeds}" for row in rows)
    return f"Seeds: {seeds}. {_CAPTION}"


def cells(row: Row) -> tuple[str, ...]:
    """Write a row as text, one cell per heading.

    Example:
        >>> cells(Row("sgdp", 2, Spread(99.25, 0.12), None, (3.357, 5.195), (0.0431, 3.2e-5), 2.73))
        ('sgdp', '99.25 ± 0.12', '', '3.36 → 5.20', '4.3e-2 → 3.2e-5', '2.7')
    """
    return (
        row.label,
        f"{row.score.mean:.2f}{_deviation(row.score)}",
        _difference_cell(row.difference) if row.difference else "",
        " → ".join(f"{value:.2f}" for value in row.norm),
        " → ".join(f"{value:.1e}".replace("e-0", "e-").replace("e+00", "") for value in row.step),
        f"{row.ms_per_step:.1f}",
    )


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000) -> tuple[float, float]:
    """Bound the mean of the population that a few values came from: a 95 % percentile bootstrap, with a fixed seed.

    Args:
        values: The sample; with fewer than two there is no interval.
        resamples: How many samples are drawn from it, with replacement.

    Returns:
        Lower and upper end; NaN if there is no interval. With a handful of values it is somewhat too narrow.

    Example:
        >>> low, high = bootstrap_interval([1.0, 2.0, 3.0])
        >>> 1.0 <= low < 2.0 < high <= 3.0
        True
    """
    if len(values) < 2:
        return nan, nan
    draws = np.random.default_rng(0).choice(np.asarray(values), size=(resamples, len(values)))
    low, high = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _row(group: Group, baseline: Group | None) -> Row:
    runs = list(group.runs.values())
    scores = _scores(group)
    return Row(
        label=group.label,
        seeds=len(runs),
        score=Spread.of(list(scores.values())),
        difference=_difference(scores, _scores(baseline)) if baseline else None,
        norm=_first_and_last(runs, "weight_norm"),
        step=_first_and_last(runs, "effective_step"),
        ms_per_step=mean(float(np.median([record["ms_per_step"] for record in run])) for run in runs),
    )


def _scores(group: Group) -> dict[int, float]:
    """Seed -> final score, as it is shown."""
    shown = headline(group)
    return {seed: shown.scale * metrics[-1][f"test_{shown.name}"] for seed, metrics in group.runs.items()}


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> Difference | None:
    """Differences of the seeds that both have."""
    values = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return Difference(Spread.of(values), *bootstrap_interval(values)) if values else None


def _difference_cell(difference: Difference) -> str:
    """Mean and deviation, and the interval under them if there is one."""
    interval = "" if isnan(difference.low) else f"\n[{_signed(difference.low)}, {_signed(difference.high)}]"
    return _signed(difference.spread.mean) + _deviation(difference.spread) + interval


def _first_and_last(runs: Sequence[Sequence[dict[str, float]]], key: str) -> tuple[float, float]:
    return mean(run[0][key] for run in runs), mean(run[-1][key] for run in runs)


def _deviation(spread: Spread) -> str:
    return "" if isnan(spread.deviation) else f" ± {spread.deviation:.2f}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # adding zero turns a rounded -0.00 into +0.00

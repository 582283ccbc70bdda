"""Statistics of a score over seeds: mean, standard deviation, and a bootstrap interval of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import mean, stdev

import numpy as np


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
    """How far a projected optimizer's score is above its baseline's, seed by seed, and a 95 % interval of the mean."""

    spread: Spread
    low: float
    high: float


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean, with a fixed seed.

    Args:
        values: The sample; with fewer than two there is no interval.
        resamples: How many samples are drawn from it, with replacement.

    Returns:
        Lower and upper end; NaN if there is no interval. With a handful of values it is somewhat too narrow.

    Examples:
        >>> low, high = bootstrap_interval([1.0, 2.0, 3.0])
        >>> 1.0 <= low < 2.0 < high <= 3.0
        True
    """
    if len(values) < 2:
        return nan, nan
    draws = np.random.default_rng(0).choice(np.asarray(values), size=(resamples, len(values)))
    low, high = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return float(low), float(high)

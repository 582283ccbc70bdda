"""Spread of a score over seeds: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import mean, stdev


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a few values; NaN deviation if there is only one."""

    mean: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return Spread(mean(values), stdev(values) if len(values) > 1 else nan)

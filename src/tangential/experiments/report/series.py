"""Series of a quantity over epochs or steps, and the mean, minimum and maximum over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

POINTS = 400
"""Most points of a drawn curve; of a longer one each point is the mean of a stretch."""


@dataclass(frozen=True)
class Series:
    """A quantity of one run.

    Args:
        x: Epochs or steps, increasing.
        y: One finite value at each.
    """

    x: Array
    y: Array


@dataclass(frozen=True)
class Band:
    """Mean, minimum and maximum over runs, at each x."""

    x: Array
    mean: Array
    low: Array
    high: Array


def banded(series: Sequence[Series], *, points: int = POINTS) -> Band:
    """Mean, minimum and maximum over runs at each x that any of them has, of those that reach it.

    Between its own points a run is interpolated linearly, so runs that logged at different steps can be averaged.

    Args:
        series: At least one run's series, none of them empty.
        points: Most points of the result.

    Returns:
        The band; with more x than `points` each of its points stands for a stretch of them, at the stretch's end.

    Examples:
        >>> band = banded([Series(np.array([1, 2]), np.array([3.0, 5.0])), Series(np.array([1]), np.array([1.0]))])
        >>> band.mean.tolist(), band.low.tolist(), band.high.tolist()
        ([2.0, 5.0], [1.0, 5.0], [3.0, 5.0])
    """
    x = np.unique(np.concatenate([each.x for each in series]))
    values = np.stack([np.interp(x, each.x, each.y, left=np.nan, right=np.nan) for each in series])
    band = Band(x, np.nanmean(values, axis=0), np.nanmin(values, axis=0), np.nanmax(values, axis=0))
    return band if len(x) <= points else _thinned(band, points)


def stretches(length: int, count: int) -> Array:
    """Starts of at most `count` stretches that `length` points are cut into, as evenly as possible.

    Examples:
        >>> stretches(7, 3).tolist()
        [0, 2, 4]
    """
    count = min(length, count)
    return np.arange(count) * length // max(count, 1)


def _thinned(band: Band, points: int) -> Band:
    # the first and the last point stay as they are: readers take numbers from them
    starts = np.concatenate([[0], 1 + stretches(len(band.x) - 2, points - 2), [len(band.x) - 1]])
    ends = np.append(starts[1:], len(band.x))
    mean = np.add.reduceat(band.mean, starts) / (ends - starts)
    return Band(band.x[ends - 1], mean, np.minimum.reduceat(band.low, starts), np.maximum.reduceat(band.high, starts))

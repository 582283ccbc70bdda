"""Strips of dots: every paired difference of a page on one axis, with the interval and the mean of each comparison.

Places are in per cent of the axis, so that a page draws them with its own boxes and text, at any width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, isnan

from tangential.experiments.report.paired import Difference


@dataclass(frozen=True)
class Dot:
    """One seed's difference: its place on the axis, and its number among dots of the same place."""

    seed: int
    value: float
    place: float
    layer: int


@dataclass(frozen=True)
class Strip:
    """The dots of one comparison; `low` and `high` are the ends of the interval, None if there is none."""

    label: str
    dots: tuple[Dot, ...]
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Strips:
    """All comparisons of a page on one axis, from `first` to `last`, with the places of zero and of the margin."""

    strips: tuple[Strip, ...]
    first: float
    last: float
    zero: float
    margin: tuple[float, float] | None


def strips(differences: Mapping[str, Difference], *, margin: float | None = None) -> Strips | None:
    """Strips of some differences, by label; None if there is none.

    Examples:
        >>> drawn = strips({"sgdp": Difference.of({0: 1.0, 1: 3.0})})
        >>> [round(dot.place) for dot in drawn.strips[0].dots]
        [46, 54]
    """
    if not differences:
        return None
    ends = [0.0, *(margin * sign for sign in (-1, 1) if margin is not None)]
    for each in differences.values():
        ends += [*each.values.values(), *(end for end in (each.low, each.high) if isfinite(end))]
    low, high = min(ends), max(ends)
    pad = 0.04 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    return Strips(
        strips=tuple(_strip(label, each, place) for label, each in differences.items()),
        first=low,
        last=high,
        zero=place(0.0),
        margin=None if margin is None else (place(-margin), place(margin)),
    )


def _strip(label: str, difference: Difference, place: Callable[[float], float]) -> Strip:
    stacked: Counter[int] = Counter()
    dots = []
    for seed, value in sorted(difference.values.items()):
        column = round(place(value) / 1.5)  # dots that would hide each other
        dots.append(Dot(seed, value, place(value), stacked[column]))
        stacked[column] += 1
    none = isnan(difference.low)
    return Strip(
        label=label,
        dots=tuple(dots),
        mean=place(difference.spread.mean),
        low=None if none else place(difference.low),
        high=None if none else place(difference.high),
    )

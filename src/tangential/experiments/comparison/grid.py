"""Grid of a search: the same levels of each setting for every optimizer of a family.

A grid and not a sampler, so that baseline and projected optimizer get the same trials and not only as many, and so that
their scores can be seen side by side over learning rate and decay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Literal

from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.settings.overrides import override
from tangential.experiments.sweep.search_space import Range, read_ranges

LEAST = 3
"""Fewest levels of an interval: with fewer every value is at an edge."""

Kind = Literal["log", "linear", "whole", "choices"]

Point = tuple[int, ...]
"""A level of each axis, by its number."""


@dataclass(frozen=True)
class Axis:
    """Levels of one setting.

    Args:
        path: The setting, as in an override.
        levels: As typed, in ascending order if they are numbers.
        kind: `log` for levels of equal ratios, `linear` for equal differences, `whole` for integers of equal ratios,
            `choices` for what has no order.
    """

    path: str
    levels: tuple[str, ...]
    kind: Kind = "log"

    @property
    def setting(self) -> str:
        """Its name, the same for every optimizer: `lr` of `optimizers.sgd.lr`."""
        return self.path.split(".", 2)[2] if self.path.startswith("optimizers.") else self.path

    def extended(self, *, below: bool, above: bool) -> Axis:
        """The axis with one more level at an end, as far away as its neighbours are from each other.

        Examples:
            >>> Axis("optimizers.sgd.lr", ("0.01", "0.1", "1")).extended(below=True, above=False).levels
            ('0.001', '0.01', '0.1', '1')
        """
        numbers = [float(level) for level in self.levels]
        levels = list(self.levels)
        if above:
            levels.append(_typed(_beyond(numbers[-2], numbers[-1], self.kind), self.kind))
        if below:
            levels.insert(0, _typed(_beyond(numbers[1], numbers[0], self.kind), self.kind))
        return replace(self, levels=tuple(levels))


@dataclass(frozen=True)
class Grid:
    """Search space of one optimizer."""

    optimizer: str
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return prod(len(axis.levels) for axis in self.axes)

    def points(self) -> Iterator[Point]:
        """All points, the last axis running fastest."""
        return product(*(range(len(axis.levels)) for axis in self.axes))

    def values(self, point: Point) -> dict[str, str]:
        """Path of each setting -> level, as typed."""
        return {axis.path: axis.levels[level] for axis, level in zip(self.axes, point, strict=True)}


def with_values(recipe: Recipe, values: Mapping[str, str]) -> Recipe:
    """The recipe with some settings, by their paths."""
    for path, level in values.items():
        recipe = override(recipe, f"{path}={level}")
    return recipe


def grids(recipe: Recipe, families: Sequence[Sequence[str]], ranges: Sequence[str], trials: int) -> dict[str, Grid]:
    """Search space of every optimizer, with at most so many points and at least `LEAST` levels of each interval.

    Args:
        recipe: The recipe; where no ranges are given, those around its own values that it states as `tuned`.
        families: Optimizers that are compared with each other.
        ranges: As typed: `optimizers.*.lr=1e-3..1`.
        trials: Most points of a grid.

    Raises:
        ValueError: Fewer trials than the smallest grid has, a range that is refused, or optimizers of a family that
            would get different numbers of trials.
    """
    searched = read_ranges(recipe, ranges) if ranges else {name: _around(recipe, name) for name in recipe.optimizers}
    made = {name: Grid(name, _axes(searched.get(name, []), trials)) for name in recipe.optimizers}
    for family in families:
        sizes = {name: len(made[name]) for name in family}
        if len(set(sizes.values())) > 1 or not all(made[name].axes for name in family):
            raise ValueError(
                f"unequal search spaces, {', '.join(f'{name} {size} trials' for name, size in sizes.items())}: give the"
                " same ranges to all that are compared, as in optimizers.*.lr=1e-3..1"
            )
    return made


def smallest(recipe: Recipe, ranges: Sequence[str]) -> int:
    """Number of points of the smallest grid that `grids` makes."""
    searched = read_ranges(recipe, ranges) if ranges else {name: _around(recipe, name) for name in recipe.optimizers}
    return max(prod(len(each.choices) or LEAST for each in ranges) for ranges in searched.values())


def _around(recipe: Recipe, optimizer: str) -> list[Range]:
    """Ranges around an optimizer's own values; a setting of zero, such as no decay, stays as it is."""
    given = recipe.optimizers[optimizer].keywords
    return [
        Range(f"optimizers.{optimizer}.{name}", low=given[name] / factor, high=given[name] * factor)
        for name, factor in recipe.tuned.items()
        if given.get(name)
    ]


def _axes(ranges: Sequence[Range], trials: int) -> tuple[Axis, ...]:
    intervals = [each for each in ranges if not each.choices]
    fixed = prod(len(each.choices) for each in ranges if each.choices)
    if fixed * LEAST ** len(intervals) > trials:
        raise ValueError(
            f"{trials} trials are fewer than the {fixed * LEAST ** len(intervals)} of the smallest grid over"
            f" {', '.join(map(str, ranges))}; give more --trials, or fewer ranges"
        )
    counts = dict.fromkeys((each.path for each in intervals), LEAST)
    grown = True
    while grown:
        grown = False
        for path in counts:
            if fixed * prod(counts.values()) // counts[path] * (counts[path] + 1) <= trials:
                counts[path] += 1
                grown = True
    return tuple(_axis(each, counts.get(each.path, 0)) for each in ranges)


def _axis(searched: Range, count: int) -> Axis:
    if searched.choices:
        return Axis(searched.path, searched.choices, "choices")
    kind: Kind = "whole" if searched.whole else "log" if searched.log else "linear"
    share = [each / (count - 1) for each in range(count)]
    if searched.log:
        numbers = [searched.low * (searched.high / searched.low) ** each for each in share]
    else:
        numbers = [searched.low + (searched.high - searched.low) * each for each in share]
    return Axis(searched.path, tuple(dict.fromkeys(_typed(number, kind) for number in numbers)), kind)


def _beyond(inner: float, end: float, kind: Kind) -> float:
    return end + (end - inner) if kind == "linear" else end * (end / inner)


def _typed(number: float, kind: Kind) -> str:
    return str(round(number)) if kind == "whole" else f"{number:.4g}"

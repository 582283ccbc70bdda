"""Tuning: the best point of each grid, edges, and the one extension of a family's range.

Scores are of held-out training data. Of equally good points the one nearest to the middle of the grid is taken, because
its neighbours are known too; of equally near ones the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from tangential.experiments.comparison.grid import Axis, Grid, Point
from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.settings.overrides import override

DIVERGED = -inf
"""Score of a point that diverged."""

Scores = Mapping[Point, float]
"""Score of each point, higher being better; `DIVERGED` for one that did."""


@dataclass(frozen=True)
class Best:
    """The best point of a grid.

    Args:
        point: Its levels, by number.
        values: Path of each setting -> level, as typed.
        score: The mean over the tuning seeds, higher being better; `DIVERGED` if every point did.
        edges: Settings whose best level is the first or last of its axis, with the side: `("lr", "above")`.
    """

    point: Point
    values: Mapping[str, str]
    score: float
    edges: tuple[tuple[str, str], ...]


def best(grid: Grid, scores: Scores) -> Best:
    """The best point of a grid whose points all have scores."""
    point = min(grid.points(), key=lambda each: (-scores[each], _distance(grid, each)))
    edges = []
    for axis, level in zip(grid.axes, point, strict=True):
        if axis.kind != "choices" and level in (0, len(axis.levels) - 1):
            edges.append((axis.setting, "above" if level else "below"))
    return Best(point, grid.values(point), scores[point], tuple(edges))


def extended(recipe: Recipe, grids: Mapping[str, Grid], found: Mapping[str, Best], family: Sequence[str]) -> list[Grid]:
    """The grids of a family, each with one more level wherever the best of any of them lies at an edge.

    A level that the optimizer would refuse, such as a negative one, is left out for all of them.
    """
    edges = {edge for name in family for edge in found[name].edges}
    sides = {edge for edge in edges if all(_allowed(recipe, grids[name], *edge) for name in family)}
    return [Grid(name, tuple(_wider(axis, sides) for axis in grids[name].axes)) for name in family]


def _wider(axis: Axis, sides: set[tuple[str, str]]) -> Axis:
    below, above = ((axis.setting, side) in sides for side in ("below", "above"))
    return axis.extended(below=below, above=above) if below or above else axis


def _allowed(recipe: Recipe, grid: Grid, setting: str, side: str) -> bool:
    for axis in grid.axes:
        if axis.setting == setting:
            wider = _wider(axis, {(setting, side)})
            added = wider.levels[-1 if side == "above" else 0]
            try:
                override(recipe, f"{axis.path}={added}").check()
            except ValueError:  # of the optimizer, the task or the schedule
                return False
    return True


def _distance(grid: Grid, point: Point) -> float:
    """How far a point is from the middle of its grid, in parts of each axis."""
    sides = zip(point, grid.axes, strict=True)
    return sum(abs(level / max(1, len(axis.levels) - 1) - 0.5) for level, axis in sides if axis.kind != "choices")


def within(scores: Scores, top: float, *, share: float = 0.01) -> float:
    """Share of points whose score is within a share, 1 %, of the top one.

    Examples:
        >>> within({(0,): 0.995, (1,): 0.5, (2,): DIVERGED}, 1.0)
        0.3333333333333333
    """
    least = top - share * abs(top)
    return sum(each >= least for each in scores.values()) / len(scores)

"""Heat maps of a search: the score over learning rate and decay, in the same colours for all of a family."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from tangential.experiments.comparison.grid import Axis, Grid, Point
from tangential.experiments.comparison.stages import Tuning

_ACROSS, _DOWN = "lr", "weight_decay"
WITHIN = 0.01
"""A score so near to the best, relative to it, lies in the area that is outlined."""


def heat_maps(tuning: Tuning, family: tuple[str, ...], *, scale: float) -> dict[str, Any]:
    """Heat maps of a family, as JSON's own types.

    Args:
        tuning: The outcome of the search.
        family: Its optimizers.
        scale: What a score is multiplied with to be shown; negative where less is better.

    Returns:
        `best`, the best score of the family, `pale`, the score with the palest colour, and for each optimizer its name,
        the settings `across` and `down`, their levels, and `rows` of cells: `score` (None if it diverged), `shade` from
        0 to 1, `within` 1 % of the family's best, and whether it was `chosen`.
    """
    every = np.array([score for name in family for score in tuning.scores[name].values() if isfinite(score)])
    top, low = float(every.max()), float(np.quantile(every, 0.25))
    maps = [_map(tuning, name, top, min(low, top - 1e-9), scale) for name in family]
    return {"best": scale * top, "pale": scale * low, "optimizers": maps}


def _map(tuning: Tuning, name: str, top: float, low: float, scale: float) -> dict[str, Any]:
    grid, scores, chosen = tuning.grids[name], tuning.scores[name], tuning.found[name].point
    across, down = _places(grid)
    rows = []
    for level in reversed(range(_count(grid, down))):
        row = []
        for column in range(_count(grid, across)):
            points = [p for p in grid.points() if _at(p, across, column) and _at(p, down, level)]
            row.append(_cell(points, scores, chosen, top, low, scale))
        rows.append({"level": None if down is None else grid.axes[down].levels[level], "cells": row})
    return {
        "name": name,
        "across": grid.axes[across].setting if across is not None else "",
        "down": grid.axes[down].setting if down is not None else "",
        "levels": list(grid.axes[across].levels) if across is not None else [],
        "rows": rows,
        "over": [axis.setting for place, axis in enumerate(grid.axes) if place not in (across, down)],
    }


def _cell(
    points: list[Point], scores: Mapping[Point, float], chosen: Point, top: float, low: float, scale: float
) -> dict[str, Any]:
    """The best of the points that two settings leave open."""
    score = max(scores[point] for point in points)
    if not isfinite(score):
        return {"score": None, "shade": 0.0, "within": False, "chosen": False}
    return {
        "score": scale * score,
        "shade": round(max(0.0, (score - low) / (top - low)), 3),
        "within": score >= top - WITHIN * abs(top),
        "chosen": chosen in points,
    }


def _places(grid: Grid) -> tuple[int | None, int | None]:
    """Which axes run across and down."""
    names = [axis.setting for axis in grid.axes]
    across = names.index(_ACROSS) if _ACROSS in names else 0
    others = [place for place in range(len(names)) if place != across]
    down = next((place for place in others if names[place] == _DOWN), next(iter(others), None))
    return across, down


def _count(grid: Grid, place: int | None) -> int:
    return 1 if place is None else len(grid.axes[place].levels)


def _at(point: Point, place: int | None, level: int) -> bool:
    return place is None or point[place] == level


def described(axes: tuple[Axis, ...], values: Mapping[str, str]) -> dict[str, str]:
    """Setting -> value, by the settings' short names."""
    return {axis.setting: values[axis.path] for axis in axes}

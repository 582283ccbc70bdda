"""Stages of a comparison after its registration: tune, retrain, test. Each resumes; its results are in the run folders.

A stage gets its runs trained by a `Trainer`. `finished_only` is the trainer of a reader: it trains nothing, and raises
for what is not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from tangential.experiments.comparison.contest import Contest
from tangential.experiments.comparison.grid import Grid, Point
from tangential.experiments.comparison.items import Item, noise, retrained, trials
from tangential.experiments.comparison.protocol import Protocol
from tangential.experiments.comparison.tuning import DIVERGED, Best, best, extended
from tangential.experiments.runs.files import read_object, replace_json

STAGES = ("register", "tune", "retrain", "test", "report")
SCORES = "scores.json"

Trainer = Callable[[Sequence[Item]], None]
"""Trains what is left of some items."""


@dataclass(frozen=True)
class Tuning:
    """Outcome of the tuning.

    Args:
        grids: The search space of each optimizer, after an extension.
        scores: Optimizer -> point -> score on held-out data, higher being better.
        found: Best point of each optimizer.
        at_edge: Best point of each optimizer before an extension, where it was at an edge.
    """

    grids: Mapping[str, Grid]
    scores: Mapping[str, Mapping[Point, float]]
    found: Mapping[str, Best]
    at_edge: Mapping[str, Best]

    @property
    def values(self) -> dict[str, Mapping[str, str]]:
        """Tuned settings of each optimizer."""
        return {name: each.values for name, each in self.found.items()}


def finished_only(items: Sequence[Item]) -> None:
    """Raise ValueError unless all items are finished."""
    left = [item for item in items if not item.finished()]
    if left:
        raise ValueError(
            f"{left[0].folder.path} is not finished, nor are {len(left) - 1} others; run the command without --stage,"
            " or the stages in their order"
        )


def tune(contest: Contest, protocol: Protocol, out: Path, train: Trainer) -> Tuning:
    """Train every trial, extend the range of a family once where a best value lies at an edge, and choose the best.

    Raises:
        FloatingPointError: Every trial of an optimizer diverged.
    """
    grids = dict(protocol.grids)
    first = {name: best(grids[name], scores) for name, scores in _scored(contest, protocol, grids, out, train).items()}
    for family in contest.families:
        if any(first[name].edges for name in family):
            grids |= {grid.optimizer: grid for grid in extended(contest.recipe, grids, first, family)}
    scores = _scored(contest, protocol, grids, out, train)
    found = {name: best(grids[name], scores[name]) for name in grids}
    for name, each in found.items():
        if not isfinite(each.score):
            raise FloatingPointError(f"every trial of {name} diverged; give a range of smaller learning rates")
    return Tuning(grids, scores, found, {name: each for name, each in first.items() if each.edges})


def retrain(contest: Contest, protocol: Protocol, tuning: Tuning, out: Path, train: Trainer) -> None:
    """Train the best settings of every optimizer from fresh seeds, and the baselines with other rounding."""
    items = [*retrained(contest, protocol, tuning.values, out), *noise(contest, protocol, tuning.values, out)]
    train(items)


def test(contest: Contest, protocol: Protocol, tuning: Tuning, out: Path) -> dict[str, Any]:
    """Seal the scores after the last epoch; None for a run that diverged.

    Returns:
        `retrained` and `noise`: optimizer -> seed -> score, in the task's unit.

    Raises:
        ValueError: A run is not finished, or the scores differ from those that are sealed.
    """
    scores: dict[str, dict[str, dict[str, float | None]]] = {"retrained": {}, "noise": {}}
    for kind, items in (("retrained", retrained), ("noise", noise)):
        runs = list(items(contest, protocol, tuning.values, out))
        finished_only(runs)
        for item in runs:
            scores[kind].setdefault(item.optimizer, {})[str(item.seed)] = item.score()
    path = out / SCORES
    if path.exists() and read_object(path) != scores:
        raise ValueError(f"{path} has other scores than the runs beside it; runs were changed after the test")
    replace_json(path, scores)
    return scores


def _scored(
    contest: Contest, protocol: Protocol, grids: Mapping[str, Grid], out: Path, train: Trainer
) -> dict[str, dict[Point, float]]:
    """Optimizer -> point -> mean score over the tuning seeds."""
    runs = {name: list(trials(contest, protocol, grid, out)) for name, grid in grids.items()}
    rounds = zip_longest(*([item for _, item in each] for each in runs.values()))
    train([item for items in rounds for item in items if item is not None])  # a trial of each, then the next of each
    sign = 1 if contest.recipe.task.headline.higher_is_better else -1
    scores: dict[str, dict[Point, float]] = {}
    for name, each in runs.items():
        of_point: dict[Point, list[float]] = {}
        for point, item in each:
            score = item.score()
            of_point.setdefault(point, []).append(DIVERGED if score is None else sign * score)
        scores[name] = {point: fmean(values) for point, values in of_point.items()}
    return scores

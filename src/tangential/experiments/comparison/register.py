"""Registration: the protocol of a new comparison, its cost measured first, or the one that a folder holds, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from tangential.experiments.comparison import protocol as protocols
from tangential.experiments.comparison.choices import TRIALS, Choices
from tangential.experiments.comparison.contest import Contest
from tangential.experiments.comparison.cost import RESERVE, Cost, seconds_per_epoch, trials_within
from tangential.experiments.comparison.grid import Grid, grids, smallest
from tangential.experiments.comparison.items import baselines, otherwise_rounded
from tangential.experiments.comparison.protocol import Protocol
from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.runs.environment import environment
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.training.data_identity import identity

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PERCENTAGE_MARGIN = 0.5
"""Margin of a score in per cent whose recipe states none, in points."""


def registered(asked: Mapping[str, Any], out: Path, *, trains: bool) -> tuple[Contest, Protocol] | None:
    """The contest and protocol of a folder; None if nothing is registered there.

    Args:
        asked: The choices that a command states, by their names in `Choices`; the others are as registered.
        out: The folder.
        trains: Whether runs may be trained, so that code and data must be those that were registered.

    Raises:
        ValueError: The command, the code or the data contradict the protocol.
    """
    found = protocols.read(out)
    if found is None:
        return None
    protocols.check_choices(found, asked, out)
    contest = found.choices.contest()
    if trains:
        present = replace(
            found,
            settings=_settings(contest),
            data=_data(contest.recipe),
            environment=environment(command="", threads=torch.get_num_threads()),
        )
        protocols.check_present(found, present, out)
    return contest, found


def register(
    choices: Choices, out: Path, *, fabric: Fabric, command: str, workers: int = 1
) -> tuple[Contest, Protocol]:
    """Measure the cost of a comparison and write its protocol.

    Args:
        choices: What the user decided.
        out: The folder, which exists.
        fabric: Where the cost is measured.
        command: For the record.
        workers: Number of processes that will share the runs.

    Raises:
        ValueError: A choice that is refused, or a budget without room for the smallest search.
    """
    contest = choices.contest()
    recipe = contest.recipe
    margin = _margin(choices, recipe)
    recipe.check()
    replace(recipe, task=ValidationSplit(recipe.task, choices.held_out)).check()
    probes = [seconds_per_epoch(recipe.plan(name, 0), fabric) for name in contest.optimizers]
    epoch = fmean(seconds for seconds, _ in probes)
    runs = choices.seeds * len(contest.optimizers)
    made, cost = _searched(choices, contest, epoch, runs, workers)
    protocol = Protocol(
        choices=choices,
        grids=made,
        margin=margin,
        cost=cost,
        steps_per_epoch=probes[0][1].batches,
        settings=_settings(contest),
        data=_data(recipe),
        environment=environment(command=command, threads=torch.get_num_threads()),
    )
    protocols.write(protocol, contest, out)
    return contest, protocol


def _searched(
    choices: Choices, contest: Contest, epoch: float, runs: int, workers: int
) -> tuple[dict[str, Grid], Cost]:
    """The largest grids that trials or budget have room for, and what they cost."""
    rounded = [name for name in baselines(contest) if otherwise_rounded(contest.recipe.optimizers[name])]
    runs += max(2, -(-choices.seeds // 2)) * len(rounded)
    run = epoch * contest.recipe.epochs / workers
    share = 1 - choices.held_out

    def made(trials: int) -> tuple[dict[str, Grid], Cost]:
        found = grids(contest.recipe, contest.families, choices.ranges, trials)
        each = [len(grid) * choices.tuning_seeds for grid in found.values()]
        wider = [prod(len(axis.levels) + (axis.kind != "choices") for axis in grid.axes) for grid in found.values()]
        return found, Cost(
            epoch=epoch,
            workers=workers,
            trials=sum(each),
            runs=runs,
            seconds=run * (share * sum(each) + runs),
            longest=run * (share * sum(wider) * choices.tuning_seeds + runs),
        )

    if choices.budget is None:
        return made(choices.trials or TRIALS)
    least = smallest(contest.recipe, choices.ranges)
    room = trials_within(
        choices.budget,
        run=run,
        optimizers=len(contest.optimizers),
        seeds=choices.tuning_seeds,
        runs=runs,
        held_out=choices.held_out,
    )
    if room < least:
        minutes = run * (share * least * len(contest.optimizers) * choices.tuning_seeds + runs) / RESERVE / 60
        raise ValueError(
            f"budget={choices.budget:g} minutes: a run takes {run * workers:.0f} s here, and the smallest search,"
            f" {least} trials of each of {len(contest.optimizers)} optimizers, with {runs} runs after it, takes"
            f" {minutes:.0f} minutes in {workers} process{'es' * (workers > 1)};"
            " give that, fewer --seeds, or one pair of optimizers (--only)"
        )
    for trials in range(room, least, -1):
        found, cost = made(trials)
        if cost.longest <= RESERVE * 60 * choices.budget:
            return found, cost
    return made(least)


def _margin(choices: Choices, recipe: Recipe) -> float:
    headline = recipe.task.headline
    margin = choices.margin or recipe.margin or (PERCENTAGE_MARGIN if headline.scale == 100 else None)
    if margin is None:
        raise ValueError(f"{recipe.name} states no margin: give --margin, the difference of {headline.label} that does"
                         " not matter")  # fmt: skip
    return margin


def _settings(contest: Contest) -> dict[str, Any]:
    """Record of each optimizer's run with the recipe's own values, without a seed."""
    recorded = {name: contest.recipe.settings(name, 0) for name in contest.optimizers}
    return {name: {key: value for key, value in each.items() if key != "seed"} for name, each in recorded.items()}


def _data(recipe: Recipe) -> dict[str, Any]:
    return {
        split: identity(recipe.task.batches(split, batch_size=recipe.batch_size).dataset)  # type: ignore[arg-type]
        for split in ("train", "test")
    }

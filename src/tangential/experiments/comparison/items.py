"""Items of a comparison: the runs of each stage, each in a run folder of its own, from which its result is read.

OUT/tuning/OPTIMIZER/lr=0.1,weight_decay=0.0001-seed0    a trial, on held-out training data
OUT/retrained/OPTIMIZER-seed100                           the best settings, on all training data
OUT/noise/OPTIMIZER-seed100                               the same once more, with other rounding
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from tangential.experiments.comparison.contest import Contest
from tangential.experiments.comparison.grid import Grid, Point, with_values
from tangential.experiments.comparison.protocol import Protocol
from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.sweep.validation_split import ValidationSplit

TUNING, RETRAINED, NOISE = "tuning", "retrained", "noise"


@dataclass(frozen=True)
class Item:
    """One run of a comparison.

    Args:
        stage: `tune` or `retrain`.
        recipe: With the settings of this run.
        optimizer: Its optimizer.
        seed: Its seed.
        folder: Where it lies.
        label: What distinguishes it, for the progress: `lr=0.1 weight_decay=0.0001`.
    """

    stage: str
    recipe: Recipe
    optimizer: str
    seed: int
    folder: RunFolder
    label: str = ""

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.recipe.epochs

    def epochs_done(self) -> int:
        """Epochs that are recorded, all of them of a run that diverged."""
        return self.epochs if self.folder.diverged() else len(self.folder.metrics())

    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.epochs_done() >= self.epochs

    def score(self) -> float | None:
        """The headline after the last epoch, as the task gives it; None if the run diverged."""
        if self.folder.diverged():
            return None
        return float(self.folder.metrics()[-1][f"test_{self.recipe.task.headline.name}"])


def tuning_recipe(contest: Contest, protocol: Protocol) -> Recipe:
    """The recipe as trials train it: scored on held-out training data, and not watched unless that was asked for."""
    recipe = contest.recipe
    options = recipe.options if recipe.options.watch_every is not None else replace(recipe.options, watch_every=0)
    return replace(recipe, task=ValidationSplit(recipe.task, protocol.choices.held_out), options=options)


def trials(contest: Contest, protocol: Protocol, grid: Grid, out: Path) -> Iterator[tuple[Point, Item]]:
    """Runs of the tuning of one optimizer."""
    recipe = tuning_recipe(contest, protocol)
    for point in grid.points():
        values = grid.values(point)
        settings = [f"{axis.setting}={values[axis.path]}" for axis in grid.axes]
        chosen = with_values(recipe, values)
        for seed in protocol.tuning_seeds:
            folder = out / TUNING / grid.optimizer / f"{_safe(','.join(settings))}-seed{seed}"
            yield point, Item("tune", chosen, grid.optimizer, seed, RunFolder(folder), " ".join(settings))


def retrained(contest: Contest, protocol: Protocol, best: Mapping[str, Mapping[str, str]], out: Path) -> Iterator[Item]:
    """Runs of the best settings on all training data, seed by seed."""
    for seed in protocol.fresh_seeds:
        for name in contest.optimizers:
            folder = RunFolder(out / RETRAINED / f"{name}-seed{seed}")
            yield Item("retrain", with_values(contest.recipe, best[name]), name, seed, folder, f"seed {seed}")


def noise(contest: Contest, protocol: Protocol, best: Mapping[str, Mapping[str, str]], out: Path) -> Iterator[Item]:
    """Runs of the tuned baselines once more, with another backend of the same optimizer."""
    for seed in protocol.noise_seeds:
        for name in baselines(contest):
            recipe = with_values(contest.recipe, best[name])
            rounded = otherwise_rounded(recipe.optimizers[name])
            if rounded is not None:
                recipe = replace(recipe, optimizers={**recipe.optimizers, name: rounded})
                folder = RunFolder(out / NOISE / f"{name}-seed{seed}")
                yield Item("retrain", recipe, name, seed, folder, f"seed {seed}, other rounding")


def baselines(contest: Contest) -> list[str]:
    """The baselines of a contest, each once."""
    return [family[0] for family in contest.families]


def otherwise_rounded(make: partial[Optimizer]) -> partial[Optimizer] | None:
    """The same optimizer with torch's fused kernel, or without it where it is set; None if it has no such choice.

    Examples:
        >>> from torch.optim import SGD
        >>> otherwise_rounded(partial(SGD, lr=0.1)).keywords
        {'lr': 0.1, 'fused': True}
    """
    if "fused" not in signature(make.func).parameters:
        return None
    changed: dict[str, Any] = {**make.keywords, "fused": not make.keywords.get("fused")}
    return partial(make.func, *make.args, **changed)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.,=+-]", "_", name)

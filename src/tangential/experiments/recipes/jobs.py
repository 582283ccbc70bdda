"""Runs of a recipe in a folder: finished, to be resumed, or to be started; runs of other settings are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.record import differences
from tangential.experiments.settings.suggestion import did_you_mean
from tangential.experiments.training.open_run import epochs_done
from tangential.experiments.training.plan import Plan

if TYPE_CHECKING:
    from tangential.experiments.recipes import Recipe


@dataclass(frozen=True)
class Job:
    """One run of a recipe: an optimizer and a seed, its folder, and the number of epochs done."""

    optimizer: str
    seed: int
    plan: Plan
    settings: dict[str, Any]
    folder: RunFolder
    done: int

    @property
    def left(self) -> int:
        """Epochs still to train."""
        return self.plan.epochs - self.done


def jobs(recipe: Recipe, out: Path, only: Sequence[str] = ()) -> list[Job]:
    """Runs of a recipe, seed by seed, so that an early stop leaves whole comparisons. Nothing is written.

    Args:
        recipe: The recipe.
        out: Folder of its run folders; it need not exist.
        only: Names of optimizers; empty for all of the recipe's. The others can be trained later in the same folder, or
            at the same time by another process.

    Raises:
        ValueError: A setting out of range, an optimizer that the recipe does not have, a run with other settings in the
            folder, or a broken run folder.
    """
    unknown = [name for name in only if name not in recipe.optimizers]
    if unknown:
        known = ", ".join(recipe.optimizers) + did_you_mean(unknown[0], recipe.optimizers)
        raise ValueError(f"{recipe.name} has no optimizer {unknown[0]!r}; it has {known}")
    recipe.check()
    if out.is_dir():
        _check_same(recipe, out)
    wanted = [name for name in recipe.optimizers if name in only or not only]
    return [_job(recipe, out, name, seed) for seed in range(recipe.seeds) for name in wanted]


def is_finished(job: Job) -> bool:
    """Whether nothing is left to train now, by this process or another; cheap while it is not."""
    return len(job.folder.metrics()) >= job.plan.epochs and epochs_done(job.folder) >= job.plan.epochs


def _job(recipe: Recipe, out: Path, optimizer: str, seed: int) -> Job:
    folder = RunFolder(out / _name(optimizer, seed))
    return Job(
        optimizer=optimizer,
        seed=seed,
        plan=recipe.plan(optimizer, seed),
        settings=recipe.settings(optimizer, seed),
        folder=folder,
        done=epochs_done(folder) if folder.exists() else 0,
    )


def _check_same(recipe: Recipe, out: Path) -> None:
    """Raise unless every run in the folder is one that this recipe makes."""
    for run in (RunFolder(path) for path in (out, *sorted(out.iterdir())) if path.is_dir()):
        if not run.exists():
            continue
        found = run.settings()
        optimizer, seed = found.get("optimizer"), found.get("seed")
        asked = recipe.settings(optimizer if optimizer in list(recipe.optimizers) else next(iter(recipe.optimizers)), 0)
        others = list(differences(found, asked | {"seed": seed}))
        if run.path.name != _name(optimizer, seed):
            others.insert(0, f"it is of {optimizer} and seed {seed}")
        if others or run.path == out:
            raise ValueError(
                f"{run.path} holds a run with other settings ({'; '.join(others[:3]) or 'a single run'}); "
                "choose another --out, or delete it"
            )


def _name(optimizer: Any, seed: Any) -> str:
    return f"{optimizer}-seed{seed}"

"""The runs of a recipe in a folder: which are finished, which go on, which begin, and what does not belong there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.record import differences
from tangential.experiments.training.fit import Plan, epochs_done

if TYPE_CHECKING:
    from tangential.experiments.recipes import Recipe


@dataclass(frozen=True)
class Job:
    """One run of a recipe: an optimizer, a seed, the folder it lives in, and the epochs it has behind it."""

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
    """List the runs of a recipe, seed by seed so that an early stop leaves whole comparisons. Writes nothing.

    Args:
        recipe: What to run.
        out: The folder of its run folders; it need not exist.
        only: The optimizers whose runs are wanted; all of the recipe's if empty. The folder is the same, so the others
            can follow, or be trained at the same time by another process.

    Raises:
        ValueError: A setting out of range, an optimizer that the recipe does not have, a run with other settings in the
            folder, or a broken run folder.
    """
    unknown = [name for name in only if name not in recipe.optimizers]
    if unknown:
        raise ValueError(f"{recipe.name} has no optimizer {unknown[0]!r}; it has {', '.join(recipe.optimizers)}")
    recipe.check()
    if out.is_dir():
        _check_same(recipe, out)
    wanted = [name for name in recipe.optimizers if name in only or not only]
    return [_job(recipe, out, name, seed) for seed in range(recipe.seeds) for name in wanted]


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

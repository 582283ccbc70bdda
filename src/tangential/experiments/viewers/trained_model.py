"""The task and the model of a run folder, made again as they were trained."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from torch import nn

from tangential.experiments.recipes import RECIPES
from tangential.experiments.runs.checkpoint import load_checkpoint, scored_weights
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.record import as_recorded, describe

T = TypeVar("T")


def trained(folder: RunFolder, kind: type[T], lacks: str) -> tuple[T, nn.Module]:
    """Task and network of a run, with the weights that the latest checkpoint is scored with, in evaluation mode.

    Args:
        folder: A run of a recipe whose task is of the kind.
        kind: The class of the task, with a field `net`.
        lacks: What a run of any other task does not do, for the error.

    Raises:
        ValueError: No run or no checkpoint there, a run of another task, or one that this version cannot make again.
    """
    if not folder.exists():
        raise ValueError(
            f"{folder.path} is no run folder; name one that `tangential train` made, as runs/RECIPE/adamp-seed0"
        )
    settings = folder.settings()
    recipe = RECIPES.get(settings.get("recipe", ""))
    if recipe is None or not isinstance(recipe.task, kind):
        raise ValueError(f"{folder.path} is a run of {settings.get('recipe')!r}, which {lacks}")
    task: Any = recipe.task
    try:
        if describe(task.data)["class"] != settings["task"]["data"]["class"]:
            task = task.smoke()
        task = as_recorded(task, settings["task"], folder.path)
    except (KeyError, TypeError) as error:  # a split of a sweep, or a file that somebody else wrote
        raise ValueError(f"{folder.path}: its settings are not those of the recipe {recipe.name}") from error
    state = load_checkpoint(folder)
    if state is None:
        raise ValueError(f"{folder.path} has no checkpoint yet; train at least one epoch")
    # what it started from is of no interest now, and may not be there
    bare = {"weights": None} if "weights" in task.net.keywords else {}
    model = replace(task, net=partial(task.net, **bare)).model()
    try:
        model.load_state_dict(scored_weights(state))
    except (KeyError, RuntimeError) as error:
        raise corrupt(folder.checkpoint, str(error).partition("\n")[0]) from error
    return task, model.eval()

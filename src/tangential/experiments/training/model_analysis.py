"""Which weights of a task's model are scale-invariant: analysed once for each task in a process.

The answer is a property of the model and not of a run, so it is found on a model of its own, with the random state put
back, and shared by all runs of the task.
"""

from __future__ import annotations

import json
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tangential.experiments.settings.record import describe
from tangential.experiments.task import Task
from tangential.experiments.training.devices import placed
from tangential.experiments.training.plan import Plan
from tangential.experiments.training.resumable_loader import batches_of
from tangential.invariances import Invariances, find_invariances

if TYPE_CHECKING:
    from lightning.fabric import Fabric

SAMPLES = 4
"""Samples of the batch that a model is analysed with."""

_analyses: dict[str, tuple[str, str]] = {}


def analysis(plan: Plan, fabric: Fabric) -> tuple[str, str]:
    """The scale-invariances of the model that a plan trains, found when they are first asked for.

    Returns:
        The answer as `Invariances.to_json` writes it, and an empty text; where `find_invariances` cannot analyse the
        model, an empty text and the reason.
    """
    key = json.dumps([describe(plan.task), plan.batch_size])
    if key not in _analyses:
        _analyses[key] = _analysed(plan, fabric)
    return _analyses[key]


def _analysed(plan: Plan, fabric: Fabric) -> tuple[str, str]:
    """Of the model's outputs, or of the losses if those depend on more of its weights."""
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    found: list[Invariances] = []
    reason = ""
    with warnings.catch_warnings(), torch.random.fork_rng(devices):
        warnings.simplefilter("ignore")  # doubtful verdicts are marked in the result
        model = fabric.to_device(plan.task.model())
        generator, size = torch.Generator().manual_seed(plan.seed), min(plan.batch_size, SAMPLES)
        batch = placed(fabric, next(batches_of(plan.task.batches("train", batch_size=size, generator=generator))))
        for forward in (_outputs, partial(_losses, plan.task)):
            try:
                found.append(find_invariances(model, batch, forward=forward))
            except (ValueError, MemoryError, torch.OutOfMemoryError) as error:
                reason = str(error)
            if found and not _unused(found[-1]):
                break
    return (min(found, key=_unused).to_json(), "") if found else ("", reason)


def _outputs(model: nn.Module, batch: Any) -> Any:
    """Outputs of a model that is called with its inputs alone, which stand first in a batch."""
    return model(batch[0])


def _losses(task: Task, model: nn.Module, batch: Any) -> list[Tensor]:
    return [each.loss(model, batch) for each in task.objectives(model)]


def _unused(found: Invariances) -> int:
    return sum(found.verdict(name).kind == "unused" for name in found)

"""Telemetry of a run: what steps did to its weights, in `telemetry.jsonl`, and which weights are scale-invariant.

A task may have several objectives, each with an optimizer of its own, and `watch` measures one optimizer. So the
records that the optimizers' watches make in a step wait in `_taken` until the step is over; then they become one
record, in which every weight stands once, under its name in the model.

The scale-invariance of the weights is a property of the model and not of a run. It is analysed once for each task in a
process, on a model of its own and with the random state put back, and kept in the run folder.
"""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tangential.experiments.runs.files import corrupt, replace_text
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.record import describe
from tangential.experiments.task import Task
from tangential.experiments.training.devices import placed
from tangential.experiments.training.loop import Training
from tangential.experiments.training.plan import Plan
from tangential.experiments.training.resumable_loader import batches_of
from tangential.invariances import Invariances, find_invariances
from tangential.telemetry import JsonLines, watch
from tangential.telemetry.metrics import over_weights
from tangential.telemetry.records import Record

if TYPE_CHECKING:
    from lightning.fabric import Fabric

RECORDS = 100
"""Records of a run without `watch_every`: so many or more, and fewer than twice as many."""

SAMPLES = 4
"""Samples of the batch that a model's invariances are found with."""

_log = logging.getLogger("tangential")
_analyses: dict[str, str | None] = {}


class RunTelemetry:
    """Records of one training, one per watched step, whatever the number of its optimizers.

    Args:
        training: What is watched.
        folder: Where the records go.
        every: Record each so many steps; None for some `RECORDS` in the whole run, 0 for none.
        invariances: Which of the model's weights are scale-invariant.
    """

    def __init__(
        self, training: Training, folder: RunFolder, *, every: int | None, invariances: Invariances | None
    ) -> None:
        self._training = training
        self._held = ExitStack()
        self._taken: list[Record] = []
        self._file = JsonLines(folder.path)
        each: dict[str, Any] = {
            "every": max(1, training.steps // RECORDS) if every is None else every,
            "names": dict(training.model.named_parameters()),
            "invariances": invariances,
            "detail": "weights",
            "sinks": [self._taken.append],
        }
        optimizers = training.optimizers if every != 0 else {}
        self._watched = {
            name: self._held.enter_context(watch(optimizer, **each)) for name, optimizer in optimizers.items()
        }

    def __enter__(self) -> RunTelemetry:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def write(self) -> None:
        """Write the record of the step that was just taken, if it was recorded."""
        if self._taken:
            weights = {name: figures for record in self._taken for name, figures in record["weights"].items()}
            place = {"step": self._training.step, "epoch": self._training.epoch + 1}
            self._file({**place, "summary": over_weights(weights), "weights": weights})
            self._taken.clear()

    def rewind(self) -> None:
        """Drop the records beyond the step where the training is; called in the first process alone."""
        self._file.rewind(self._training.step)

    def state_dict(self) -> dict[str, Any]:
        """State that the next records depend on."""
        return {name: each.state_dict() for name, each in self._watched.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        for name, each in self._watched.items():
            each.load_state_dict(state[name])


def run_invariances(plan: Plan, folder: RunFolder, fabric: Fabric) -> Invariances | None:
    """Scale-invariance of a run's weights, from its folder, or found now and kept there.

    Runs of one task in one process share the analysis, for it depends on the model and not on its weights.

    Returns:
        The invariances; None where `find_invariances` cannot analyse the model, with a warning and the reason.

    Raises:
        ValueError: The folder's file is broken.
    """
    if not folder.invariances.exists():
        key = json.dumps([describe(plan.task), plan.batch_size])
        if key not in _analyses:
            _analyses[key] = _analysed(plan, fabric)
        found = _analyses[key]
        if found is None:
            return None
        replace_text(folder.invariances, found)
    try:
        return Invariances.from_json(folder.invariances.read_text("utf-8"))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise corrupt(folder.invariances, str(error)) from error


def _analysed(plan: Plan, fabric: Fabric) -> str | None:
    """The analysis as JSON: of the model's outputs, or of the losses if those depend on more of its weights."""
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
    if not found:
        _log.warning("which weights are scale-invariant is not known: %s", reason)
        return None
    return min(found, key=_unused).to_json()


def _outputs(model: nn.Module, batch: Any) -> Any:
    """Outputs of a model that is called with its inputs alone, which stand first in a batch."""
    return model(batch[0])


def _losses(task: Task, model: nn.Module, batch: Any) -> list[Tensor]:
    return [each.loss(model, batch) for each in task.objectives(model)]


def _unused(found: Invariances) -> int:
    return sum(found.verdict(name).kind == "unused" for name in found)

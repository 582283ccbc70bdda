"""Telemetry of a run: what steps did to its weights, in `telemetry.jsonl`, and which weights are scale-invariant.

A task may have several objectives, each with an optimizer of its own, and `watch` measures one optimizer. So the
records that the optimizers' watches make in a step wait in `_taken` until the step is over; then they become one
record, in which every weight stands once, under its name in the model.

The scale-invariance of the weights, a property of the model, is kept in the run folder.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tangential.experiments.runs.files import corrupt, replace_text
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.loop import Training
from tangential.experiments.training.model_analysis import analysis
from tangential.experiments.training.plan import Plan
from tangential.invariances import Invariances
from tangential.telemetry import JsonLines, watch
from tangential.telemetry.metrics import over_weights
from tangential.telemetry.records import Record

if TYPE_CHECKING:
    from lightning.fabric import Fabric

RECORDS = 100
"""Records of a run without `watch_every`: so many or more, and fewer than twice as many."""

_log = logging.getLogger("tangential")


class RunTelemetry:
    """Records of one training, one per watched step, whatever the number of its optimizers.

    Args:
        training: What is watched.
        folder: Where the records go.
        every: Record every N-th step; None for about `RECORDS` in the whole run, 0 for none.
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
            step, epoch = self._training.step, self._training.epoch + 1
            self._file({"step": step, "epoch": epoch, "summary": over_weights(weights), "weights": weights})
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
        found, reason = analysis(plan, fabric)
        if not found:
            _log.warning("which weights are scale-invariant is not known: %s", reason)
            return None
        replace_text(folder.invariances, found)
    try:
        return Invariances.from_json(folder.invariances.read_text("utf-8"))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise corrupt(folder.invariances, str(error)) from error

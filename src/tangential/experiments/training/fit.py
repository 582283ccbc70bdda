"""A run in its folder: trained, saved at every epoch, every few minutes and on a signal, and resumed.

open_run        lock, settings, loggers, writer
Training        the loop, from the plan
RunTelemetry    what the steps do to the weights
resume          all of it brought to the newest checkpoint that is whole
each epoch      trained, with the `Checkpointer` after every step; its record and state written; then yielded
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tangential.experiments.runs.checkpoint import first_line, load_checkpoint, out_of_memory
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.task import Record
from tangential.experiments.training.data_identity import check_data
from tangential.experiments.training.devices import from_first, start
from tangential.experiments.training.loop import Training
from tangential.experiments.training.open_run import RunWriter, open_run
from tangential.experiments.training.plan import Plan
from tangential.experiments.training.run_telemetry import RunTelemetry, run_invariances
from tangential.experiments.training.signals import Stop, Stopped

if TYPE_CHECKING:
    from lightning.fabric import Fabric

MINUTES = 10.0
"""How often a checkpoint is written within an epoch."""


def fit(
    plan: Plan,
    folder: RunFolder,
    *,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    loggers: Sequence[str] = (),
    fabric: Fabric | None = None,
    stop: Stop | None = None,
    minutes: float = MINUTES,
    progress: Callable[[Training], None] = lambda training: None,
) -> Iterator[Record]:
    """Train what is left of a run in its folder, yielding the record of each epoch once it is safely on disk.

    A run that was killed at any moment resumes from its checkpoint and ends with the same bits as one that was not.

    Args:
        plan: What to train.
        folder: The run; one that was started with this plan's settings if these are not given.
        settings: What the run is, for `settings.json`; a run with others in the folder is refused.
        environment: Where it is trained now, for `environment.json`.
        loggers: Where records go as well, some of `loggers.LOGGERS`.
        fabric: Where; one process on the best device there is if not given. Only the first process writes.
        stop: Its signal is looked at after each step: the run is saved and `Stopped` raised.
        minutes: How often a checkpoint is written within an epoch.
        progress: Called after each step.

    Raises:
        ValueError: Broken files, named, a folder that another process writes to, or one of another run.
        FloatingPointError: A loss, a gradient, a score or a norm is not finite; the folder keeps the last checkpoint.
        OSError: The disk is full or the folder cannot be written; the folder keeps the last checkpoint.
        Stopped: A signal came, and the run was saved.
    """
    fabric = start(precision=plan.options.precision) if fabric is None else fabric
    stop = Stop() if stop is None else stop
    with open_run(folder, fabric, settings=settings, environment=environment, loggers=loggers) as writer:
        training = Training(plan, fabric)
        from_first(fabric, lambda: check_data(folder, training.datasets))
        with _telemetry(plan, training, folder, fabric) as telemetry:
            _resume(training, telemetry, folder, fabric)
            checkpointer = Checkpointer(training, telemetry, writer, stop, minutes, progress)
            while training.epoch < plan.epochs:
                record = training.run_epoch(checkpointer.after_step)
                checkpointer.save(record)
                yield record
                checkpointer.stop_if_signalled()


def _telemetry(plan: Plan, training: Training, folder: RunFolder, fabric: Fabric) -> RunTelemetry:
    every = plan.options.watch_every
    known = from_first(fabric, lambda: run_invariances(plan, folder, fabric)) if every != 0 else None
    return RunTelemetry(training, folder, every=every, invariances=known)


def _resume(training: Training, telemetry: RunTelemetry, folder: RunFolder, fabric: Fabric) -> None:
    """Bring a new training to where its folder's checkpoint is."""
    state = from_first(fabric, lambda: load_checkpoint(folder, warn=True))
    if state is not None:
        try:
            training.load_state_dict(state)
            telemetry.load_state_dict(state["telemetry"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            raise corrupt(folder.checkpoint, first_line(error)) from error
    from_first(fabric, lambda: folder.rewind(training.epoch))
    from_first(fabric, telemetry.rewind)


class Checkpointer:
    """Saves a training when it is time and when a signal came; all processes decide alike.

    Args:
        training: What is saved.
        telemetry: Saved with it.
        writer: Writes.
        stop: Holds a signal that came.
        minutes: How often a checkpoint is written within an epoch.
        progress: Called after each step.
    """

    def __init__(
        self,
        training: Training,
        telemetry: RunTelemetry,
        writer: RunWriter,
        stop: Stop,
        minutes: float,
        progress: Callable[[Training], None],
    ) -> None:
        self._training, self._telemetry = training, telemetry
        self._writer, self._stop = writer, stop
        self._seconds = 60 * minutes
        self._progress = progress
        self._saved = time.monotonic()

    def after_step(self) -> None:
        """Telemetry, progress, a checkpoint if one is due, and the end if a signal came."""
        self._telemetry.write()
        self._progress(self._training)
        signum, due = self._agreed(self._stop.signum, time.monotonic() - self._saved > self._seconds)
        if signum or due:
            self.save()
        if signum:
            raise Stopped(signum)

    def stop_if_signalled(self) -> None:
        """Raise `Stopped` if a signal came; everything was saved."""
        signum, _ = self._agreed(self._stop.signum, False)
        if signum:
            raise Stopped(signum)

    def save(self, record: Record | None = None) -> None:
        """Write a checkpoint, with the record of the epoch that it ends."""
        state = self._training.state_dict() | {"telemetry": self._telemetry.state_dict()}
        if record is None:
            self._writer.checkpoint(state)
        else:
            self._writer.epoch(record, state)
        self._saved = time.monotonic()

    def _agreed(self, *flags: Any) -> list[int]:
        """The greatest of each flag over the processes, for a signal may reach one step earlier here than there."""
        fabric = self._writer.fabric
        if fabric.world_size == 1:
            return [int(flag) for flag in flags]
        given = torch.tensor([int(flag) for flag in flags], device=fabric.device)
        torch.distributed.all_reduce(given, op=torch.distributed.ReduceOp.MAX)
        return given.tolist()

"""A run in its folder: trained, saved at every epoch, every few minutes and when told to stop, and gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from tangential.experiments.runs.checkpoint import first_line, load_checkpoint, save_checkpoint
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.runs.lock import locked
from tangential.experiments.task import Record
from tangential.experiments.training.devices import from_first, start
from tangential.experiments.training.loop import Plan, Training
from tangential.experiments.training.run_telemetry import Recording, invariances
from tangential.experiments.training.signals import Stop, Stopped

if TYPE_CHECKING:
    from lightning.fabric import Fabric

MINUTES = 10.0
"""How often a checkpoint is written within an epoch."""


def fit(
    plan: Plan,
    folder: RunFolder,
    *,
    fabric: Fabric | None = None,
    stop: Stop | None = None,
    minutes: float = MINUTES,
    progress: Callable[[Training], None] = lambda training: None,
) -> Iterator[Record]:
    """Train what is left of a run in its folder, yielding the record of each epoch once it is safely on disk.

    A run that was killed at any moment goes on from its checkpoint and ends with the same bits as one that was not.

    Args:
        plan: What to train.
        folder: A folder that was started with this plan's settings.
        fabric: Where; one process on the best device there is if not given. Only the first process writes.
        stop: Asked after each step whether to save and raise `Stopped`.
        minutes: How often a checkpoint is written within an epoch.
        progress: Called after each step.

    Raises:
        ValueError: Broken files, named, or a folder that another process writes to.
        FloatingPointError: A loss, a gradient, a score or a norm is not finite; the folder keeps the last checkpoint.
        OSError: The disk is full or the folder cannot be written; the folder keeps the last checkpoint.
        Stopped: The run was told to stop, and has saved.
    """
    fabric = fabric or start(precision=plan.precision)
    with ExitStack() as held:
        from_first(fabric, lambda: held.enter_context(locked(folder.path)))
        training = Training(plan, fabric)
        recording = held.enter_context(_recording(plan, training, folder, fabric))
        _go_on(training, recording, folder, fabric)
        keeper = _Keeper(training, recording, folder, fabric, stop or Stop(), minutes, progress)
        while training.epoch < plan.epochs:
            record = training.run_epoch(keeper.pause)
            from_first(fabric, lambda: folder.append(record))  # noqa: B023  # called at once
            keeper.save()
            yield record
            keeper.stop_if_told()


def epochs_done(folder: RunFolder) -> int:
    """Count the epochs that a resumed run would not train again.

    Raises:
        ValueError: A broken checkpoint or metrics file, named.
    """
    state = load_checkpoint(folder)
    done = 0 if state is None else int(state["epoch"])
    if len(folder.metrics()) < done:
        raise corrupt(folder.path / "metrics.jsonl", f"it ends before epoch {done} of the checkpoint")
    return done


def _recording(plan: Plan, training: Training, folder: RunFolder, fabric: Fabric) -> Recording:
    wanted = plan.watch_every != 0
    known = from_first(fabric, lambda: invariances(plan, folder, fabric)) if wanted else None
    return Recording(training, folder, every=plan.watch_every, invariances=known)


def _go_on(training: Training, recording: Recording, folder: RunFolder, fabric: Fabric) -> None:
    """Bring a new training to where its folder's checkpoint is."""
    state = from_first(fabric, lambda: load_checkpoint(folder, say=True))
    if state is not None:
        try:
            training.load_state_dict(state)
            recording.load_state_dict(state["telemetry"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise corrupt(folder.checkpoint, first_line(error)) from error
    from_first(fabric, lambda: folder.rewind(training.epoch))
    from_first(fabric, recording.rewind)


class _Keeper:
    """Saves a training when it is time, and when it is told to stop; all processes decide alike."""

    def __init__(
        self,
        training: Training,
        recording: Recording,
        folder: RunFolder,
        fabric: Fabric,
        stop: Stop,
        minutes: float,
        progress: Callable[[Training], None],
    ) -> None:
        self._training, self._recording = training, recording
        self._folder, self._fabric, self._stop = folder, fabric, stop
        self._seconds = 60 * minutes
        self._progress = progress
        self._saved = time.monotonic()

    def pause(self) -> None:
        """Do what is due after a step."""
        self._recording.write()
        self._progress(self._training)
        signum, due = self._agreed(self._stop.signum, time.monotonic() - self._saved > self._seconds)
        if signum or due:
            self.save()
        if signum:
            raise Stopped(signum)

    def stop_if_told(self) -> None:
        """Raise `Stopped` if told so; what there is was saved."""
        signum, _ = self._agreed(self._stop.signum, False)
        if signum:
            raise Stopped(signum)

    def save(self) -> None:
        """Write a checkpoint."""
        state = self._training.state_dict() | {"telemetry": self._recording.state_dict()}
        from_first(self._fabric, lambda: save_checkpoint(self._folder, state))
        self._saved = time.monotonic()

    def _agreed(self, *flags: Any) -> list[int]:
        """The greatest of each flag over the processes, for a signal may reach one step earlier here than there."""
        if self._fabric.world_size == 1:
            return [int(flag) for flag in flags]
        told = torch.tensor([int(flag) for flag in flags], device=self._fabric.device)
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
        return told.tolist()

"""The opening of a run: one context around everything that is written of it.

The order makes a refused process harmless. A second process that trains into the same folder fails at the first point,
when nothing of the first one's files has been touched.

1. the lock of the folder;
2. `settings.json`, compared with the given ones if the run exists, and `environment.json`;
3. the loggers, which may replace what a killed run logged beyond its last checkpoint;
4. the writer, which is all that the training sees of the folder.

In several processes the first alone opens and writes; an error there is raised in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tangential.experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import METRICS, RunFolder
from tangential.experiments.runs.lock import locked
from tangential.experiments.settings.record import differences
from tangential.experiments.task import Record
from tangential.experiments.training.devices import from_first
from tangential.experiments.training.loggers import Logger, log_record, open_loggers

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class RunWriter:
    """Writer of a run's records and checkpoints; a collective call in every process, which the first one carries out.

    Args:
        folder: The run.
        fabric: Which process this is.
        loggers: Where records go as well; none in other processes than the first.
    """

    folder: RunFolder
    fabric: Fabric
    loggers: Sequence[Logger]

    def epoch(self, record: Record, state: dict[str, Any]) -> None:
        """Write the record of an epoch and the state after it.

        The record is on the disk and with the loggers before the checkpoint is written. A process that is killed in
        between trains the epoch again and writes the same record in the place of this one; were it the other way round,
        the record would be lost.
        """
        from_first(self.fabric, lambda: self._epoch(record, state))

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state after a step."""
        from_first(self.fabric, lambda: save_checkpoint(self.folder, state))

    def _epoch(self, record: Record, state: dict[str, Any]) -> None:
        self.folder.append(record)
        log_record(self.loggers, record)
        save_checkpoint(self.folder, state)


@contextmanager
def open_run(
    folder: RunFolder,
    fabric: Fabric,
    *,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    loggers: Sequence[str] = (),
) -> Iterator[RunWriter]:
    """Open a run for training, alone.

    Args:
        folder: The run; it need not exist if there are settings.
        fabric: Which process this is of how many.
        settings: What the run is; those in the folder if not given.
        environment: Where it is trained now; written if there are settings.
        loggers: Some of `loggers.LOGGERS`.

    Raises:
        ValueError: Another process holds the folder, it holds another run, or a file in it is broken.
        OSError: The folder cannot be written.
    """
    opened: list[Logger] = []  # of this process: loggers cannot be sent to others
    with ExitStack() as held:

        def open_first() -> None:
            if settings is not None:
                folder.path.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder.path))
            if settings is not None:
                _start(folder, settings, environment)
            if loggers:
                opened.extend(held.enter_context(open_loggers(loggers, folder, epochs_done(folder))))

        from_first(fabric, open_first)
        yield RunWriter(folder, fabric, opened)


def epochs_done(folder: RunFolder) -> int:
    """Number of epochs that a resumed run would not train again.

    Raises:
        ValueError: A broken checkpoint or metrics file, named.
    """
    state = load_checkpoint(folder)
    done = 0 if state is None else int(state["epoch"])
    if len(folder.metrics()) < done:
        raise corrupt(folder.path / METRICS, f"it ends before epoch {done} of the checkpoint")
    return done


def _start(folder: RunFolder, settings: Mapping[str, Any], environment: Mapping[str, Any] | None) -> None:
    if folder.exists():
        others = list(differences(folder.settings(), dict(settings)))
        if others:
            raise ValueError(
                f"{folder.path} holds a run with other settings ({'; '.join(others[:3])}); choose another --out, or"
                " delete it"
            )
    folder.start(settings, {} if environment is None else environment)

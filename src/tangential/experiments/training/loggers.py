"""Loggers of a run besides its folder: TensorBoard, Weights & Biases, CSV, through Lightning's loggers.

A record is with every logger before the checkpoint of its epoch is written. So a run that is resumed finds every epoch
before its checkpoint logged, and each logger replaces what was logged beyond it: TensorBoard by a purge, CSV by writing
the file again from `metrics.jsonl`, Weights & Biases by refusing the second record of an epoch, which is the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from tangential.experiments.runs.files import named
from tangential.experiments.runs.folder import RunFolder

LOGGERS = ("tensorboard", "wandb", "csv", "none")


class Logger(Protocol):
    """Interface of Fabric's loggers."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Write the numbers of a step."""
        ...

    def save(self) -> None:
        """Write what waits in memory."""
        ...

    def finalize(self, status: str) -> None:
        """Write what is left."""
        ...


def check_loggers(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is unknown, or whose package is not installed."""
    packages = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"logger={name}: choose from {', '.join(LOGGERS)}")
        try:
            if name in packages:
                __import__(packages[name])
        except ImportError as error:
            raise ValueError(f"logger={name}: {name} is not installed; run: pip install {name}") from error


@contextmanager
def open_loggers(names: Sequence[str], folder: RunFolder, done: int) -> Iterator[list[Logger]]:
    """Open the loggers of a run.

    Args:
        names: Some of `LOGGERS`.
        folder: The run; each logger has a folder of its own in it.
        done: Epochs that were logged before; what a killed run logged beyond them is replaced.
    """
    loggers: list[Logger] = []
    status = "failed"
    shown = threading.excepthook
    threading.excepthook = lambda args: None if _raised_again(args) else shown(args)
    try:
        for name in names:
            if name != "none":
                with named(folder.path / name):
                    loggers.append(_OPEN[name](folder, done))
        yield loggers
        status = "success"
    finally:
        for each in loggers:
            # what failed while logging fails again while closing, and the first error counts
            with _named(each), suppress(OSError) if status == "failed" else nullcontext():
                _close(each, status)
        threading.excepthook = shown


def log_record(loggers: Sequence[Logger], record: Mapping[str, float]) -> None:
    """Log the record of an epoch; it has left the process when this returns.

    Raises:
        OSError: The disk is full or the logger's folder cannot be written; the error names it.
    """
    for each in loggers:
        with _named(each):
            numbers = {name: value for name, value in record.items() if name != "epoch"}
            each.log_metrics(numbers, step=int(record["epoch"]))
            each.save()


def _raised_again(args: threading.ExceptHookArgs) -> bool:
    """Whether an error is of TensorBoard's writing thread, which is raised once more by the next flush."""
    return type(args.thread).__name__ == "_AsyncWriterThread" and isinstance(args.exc_value, OSError)


def _named(logger: Any) -> AbstractContextManager[None]:
    """Name the folder of a logger in an error that names no file."""
    return named(Path(getattr(logger, "log_dir", None) or type(logger).__name__))


def _close(logger: Any, status: str) -> None:
    logger.finalize(status)
    if type(logger).__name__ == "WandbLogger":  # it leaves its run open, for the next run's records to go to
        logger.experiment.finish(exit_code=int(status != "success"))


def _tensorboard(folder: RunFolder, done: int) -> Logger:
    from lightning.fabric.loggers.tensorboard import TensorBoardLogger

    stamps = [file.name.split(".")[3] for file in (folder.path / "tensorboard").glob("events.out.tfevents.*.*")]
    # files are read in the order of their names, which begin with the second they were made in
    while int(time.time()) <= max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0) < time.time() + 2:
        time.sleep(0.05)
    return TensorBoardLogger(folder.path, name="tensorboard", version="", purge_step=done + 1)


def _csv(folder: RunFolder, done: int) -> Logger:
    from lightning.fabric.loggers.csv_logs import CSVLogger

    (folder.path / "csv" / "metrics.csv").unlink(missing_ok=True)  # it would be deleted, with a warning
    logger = CSVLogger(folder.path, name="csv", version="", flush_logs_every_n_steps=1)
    for record in folder.metrics()[:done]:
        log_record([logger], record)
    return logger


def _wandb(folder: RunFolder, done: int) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    settings = folder.settings()
    # W&B keeps what a run has logged, and refuses a step that goes back
    id_file = folder.path / "wandb-id"
    if not id_file.exists():
        id_file.write_text(os.urandom(8).hex())
    return WandbLogger(
        project="tangential",
        group=str(settings.get("recipe")),
        name=f"{settings.get('recipe')}-{folder.path.name}",
        id=id_file.read_text(),
        resume="allow",
        save_dir=folder.path,
        config=settings,
    )


_OPEN = {"tensorboard": _tensorboard, "csv": _csv, "wandb": _wandb}

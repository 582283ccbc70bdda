"""Checkpoints on disk: the newest and the one before it, so that a damaged file costs minutes and not the run.

    checkpoint.pt             the whole state, after a step
    checkpoint-previous.pt    the one before

A new file is written beside them, brought to the disk, and only then takes its name. A file is read without unpickling
anything but tensors and plain values, after every checksum in it was verified.
"""

from __future__ import annotations

import errno
import logging
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tangential.experiments.runs.files import corrupt, replace_file
from tangential.experiments.runs.folder import RunFolder

_log = logging.getLogger("tangential")


def save_checkpoint(folder: RunFolder, state: dict[str, Any]) -> None:
    """Write a state as the newest checkpoint; the newest there was becomes the previous one.

    Raises:
        OSError: The disk is full or the folder cannot be written; what was there is still there.
    """
    replace_file(folder.checkpoint, lambda file: _write(state, file), keep=folder.previous_checkpoint)


def load_checkpoint(folder: RunFolder, *, warn: bool = False) -> dict[str, Any] | None:
    """Newest checkpoint of a run that is whole; None before the first.

    Args:
        folder: The run.
        warn: Whether to log a warning if it is not the newest.

    Raises:
        ValueError: There is a checkpoint, and none is whole.
        OSError: One cannot be read (no permission, too many open files), which is no damage: another is not taken.
        MemoryError: There is no memory to read it, likewise.
    """
    failure: ValueError | None = None
    for path in (folder.checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except ValueError as error:
            failure = failure or error
            continue
        if failure and warn:
            _log.warning("%s; going on from %s", str(failure).partition("; ")[0], path.name)
        return state
    if failure:
        raise failure
    return None


def scored_weights(state: dict[str, Any]) -> dict[str, Any]:
    """State dict of the weights that a run is scored with: their moving average if it has one, else the weights.

    Args:
        state: A checkpoint.

    Examples:
        >>> scored_weights({"model": {"weight": 1}, "average": {"n_averaged": 9, "module.weight": 2}})
        {'weight': 2}
    """
    average = state.get("average")
    if average is None:
        return state["model"]
    return {name.removeprefix("module."): value for name, value in average.items() if name.startswith("module.")}


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is one of memory, for which torch has a RuntimeError with a text."""
    text = str(error).lower()
    of_torch = isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text)
    return (
        of_torch
        or isinstance(error, MemoryError | torch.OutOfMemoryError)
        or getattr(error, "errno", 0) == errno.ENOMEM
    )


def first_line(error: Exception) -> str:
    """Shorten an error's text to its first line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class _KeepsError:
    """A file whose own error is kept: `torch.save` turns a full disk into a sentence about its archive."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    kept = _KeepsError(file)
    try:
        torch.save(state, kept)  # type: ignore[arg-type]
    except Exception:
        if kept.error:
            raise kept.error from None
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch reads flipped bits without a word
        if damaged:
            raise ValueError(f"the checksum of {damaged} is wrong")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a cut or foreign file fails in as many ways as pickle, zip and torch have
        if out_of_memory(error):
            raise MemoryError(f"{path}: not enough memory to read it") from error
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: offsets before the start
            error.filename = str(path)
            raise
        raise corrupt(path, first_line(error)) from error
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise corrupt(path, "it is not a checkpoint of a run")
    return state

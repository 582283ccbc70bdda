"""Checkpoints on disk: the newest and the one before it, so that a damaged file costs minutes and not the run.

    checkpoint.pt             the whole state, after a step
    checkpoint-previous.pt    the one before

A new file is written beside them, brought to the disk, and only then takes its name. A file is read without unpickling
anything but tensors and plain values, after every checksum in it was verified.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tangential.experiments.runs.files import corrupt, replace_file
from tangential.experiments.runs.folder import RunFolder

_log = logging.getLogger("tangential")


def save_checkpoint(folder: RunFolder, state: dict[str, Any]) -> None:
    """Write a state; the newest there was becomes the previous one.

    Raises:
        OSError: The disk is full or the folder cannot be written; what was there is still there.
    """
    replace_file(folder.checkpoint, lambda file: _write(state, file), keep=folder.previous_checkpoint)


def load_checkpoint(folder: RunFolder, *, warn: bool = False) -> dict[str, Any] | None:
    """Read a run's newest checkpoint that is whole; None before the first.

    Args:
        folder: The run.
        warn: Whether to log a warning if it is not the newest.

    Raises:
        ValueError: There is a checkpoint, and none is whole.
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
        raise corrupt(path, first_line(error)) from error
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise corrupt(path, "it is not a checkpoint of a run")
    return state

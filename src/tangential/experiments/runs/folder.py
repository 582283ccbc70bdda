"""A run folder: what was asked, where it ran, what came out, and where to go on from.

    settings.json      what decides the result; two runs with equal settings are the same run
    environment.json   where it was last started: versions, machine, exact command
    metrics.jsonl      one object per epoch, appended and on disk before the checkpoint of that epoch
    checkpoint.pt      the whole state after a step; checkpoint-previous.pt is the one before
    lock               held by the process that writes here
    telemetry.jsonl    one object per logged step: what the weights did, if they were watched
    invariances.json   which weights of the model are scale-invariant, as `Invariances.to_json` says it, if it was asked

Every file but the metrics is replaced as a whole, so a killed process leaves the old one or the new one. A line of
metrics beyond the checkpoint belongs to an epoch that will run again. Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

SETTINGS = "settings.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint-previous.pt"
TELEMETRY = "telemetry.jsonl"
INVARIANCES = "invariances.json"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk: a training of one optimizer from one seed.

    Args:
        path: The folder; it need not exist yet.

    Example:
        >>> import tempfile
        >>> run = RunFolder(Path(tempfile.mkdtemp()) / "sgd-seed0")
        >>> run.start({"seed": 0}, {"command": "tangential train digits"})
        >>> run.append({"epoch": 1, "train_loss": 0.5})
        >>> run.exists(), run.settings(), run.metrics()
        (True, {'seed': 0}, [{'epoch': 1, 'train_loss': 0.5}])
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Where the latest checkpoint lies, if there is one."""
        return self.path / CHECKPOINT

    @property
    def previous_checkpoint(self) -> Path:
        """Where the one before it lies."""
        return self.path / PREVIOUS

    @property
    def telemetry(self) -> Path:
        """Where the figures of each weight lie, if the run was watched."""
        return self.path / TELEMETRY

    @property
    def invariances(self) -> Path:
        """Where the facts about the model's weights lie, if they were asked: `replace_text(path, found.to_json())`."""
        return self.path / INVARIANCES

    def exists(self) -> bool:
        """Say whether the run was begun; a folder that was made but holds nothing yet was not.

        Raises:
            ValueError: The folder has results but no settings.
        """
        if (self.path / SETTINGS).exists():
            return True
        for name in (CHECKPOINT, PREVIOUS, METRICS):
            if (self.path / name).exists():
                raise corrupt(self.path / SETTINGS, f"it is missing beside {name}")
        return False

    def settings(self) -> dict[str, Any]:
        """Read what was asked.

        Raises:
            ValueError: The file is not a JSON object.
        """
        return _read_object(self.path / SETTINGS)

    def environment(self) -> dict[str, Any]:
        """Read where the run was last started.

        Raises:
            ValueError: The file is not a JSON object.
        """
        return _read_object(self.path / ENVIRONMENT)

    def metrics(self) -> list[dict[str, Any]]:
        """Read one record per epoch; a last line that was cut off by a kill does not count.

        Raises:
            ValueError: Another line is broken, or the epochs are not 1, 2, 3, ...
        """
        path = self.path / METRICS
        if not path.exists():
            return []
        *lines, _cut_off = path.read_bytes().split(b"\n")
        records = [_read_record(path, number, line) for number, line in enumerate(lines, start=1)]
        return records

    def start(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Make the folder and write both files, the settings last: with them the run exists.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        _replace_json(self.path / ENVIRONMENT, environment)
        _replace_json(self.path / SETTINGS, settings)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one epoch to the metrics; it is on the disk when this returns.

        Raises:
            ValueError: A value that JSON has no number for (NaN, infinity).
            OSError: The disk is full or the folder cannot be written.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        path = self.path / METRICS
        with _named(path), path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, epochs: int) -> None:
        """Drop the metrics beyond this many epochs: those whose checkpoint was never written.

        Raises:
            ValueError: There are fewer epochs than that.
        """
        records = self.metrics()
        if len(records) < epochs:
            raise corrupt(self.path / METRICS, f"it has {len(records)} epochs, the checkpoint {epochs}")
        lines = "".join(json.dumps(record) + "\n" for record in records[:epochs])
        replace_text(self.path / METRICS, lines)


def make_folder(folder: Path) -> None:
    """Make a folder for runs, and make sure that it can be written before any time is spent.

    Raises:
        ValueError: It cannot be made or written; the error says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error


def find(folders: Iterable[Path]) -> list[RunFolder]:
    """Collect the run folders that are these folders or lie directly in them, sorted by name, each once.

    Args:
        folders: Run folders, or folders of run folders.

    Raises:
        ValueError: One of them does not exist or holds no run.
    """
    runs: dict[Path, RunFolder] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; name the --out of a `tangential train`")
        found = [RunFolder(path) for path in (folder, *sorted(folder.iterdir())) if path.is_dir()]
        found = [run for run in found if run.exists()]
        if not found:
            raise ValueError(
                f"{folder}: no run in it; a run is a folder with a {SETTINGS}, as `tangential train` makes"
            )
        runs.update((run.path.resolve(), run) for run in found)
    return list(runs.values())


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Write a file so that whoever looks, even after a power cut, finds the old content or the new one, whole.

    Args:
        path: The file; its folder must exist.
        write: Called with the open temporary file.
        keep: What the old file is called from then on, if it is to be kept.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is still there.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with _named(path), temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """`replace_file` for a text, in UTF-8.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is still there.
    """
    replace_file(path, lambda file: file.write(text.encode()))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an error that does not, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    """Put the folder's own entries on the disk; Windows cannot open a folder and needs no such thing."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    replace_text(path, text)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(value, dict):
        raise corrupt(path, "it does not hold an object")
    return value


def _read_record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise corrupt(path, f"line {number} is not JSON") from error
    if not isinstance(record, dict) or record.get("epoch") != number:
        raise corrupt(path, f"line {number} is not the record of epoch {number}")
    return record


def corrupt(path: Path, why: str) -> ValueError:
    """Make the error for a file of a run folder that cannot be used.

    Example:
        >>> str(corrupt(Path("runs/sgd-seed0/settings.json"), "it is empty"))
        'runs/sgd-seed0/settings.json is broken (it is empty); delete runs/sgd-seed0 to train this run again'
    """
    return ValueError(f"{path} is broken ({why}); delete {path.parent} to train this run again")

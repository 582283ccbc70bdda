"""A run folder: settings, environment, data, results, and the checkpoint to resume from.

    settings.json      what decides the result; two runs with equal settings are the same run
    environment.json   where it was last started: versions, machine, exact command
    data.json          number of samples and fingerprint of each split, as the run was begun with
    metrics.jsonl      one object per epoch, appended and on disk before the checkpoint of that epoch
    checkpoint.pt      the whole state after a step; checkpoint-previous.pt is the one before
    lock               held by the process that writes here
    telemetry.jsonl    one object per logged step: what the weights did, if they were watched
    invariances.json   which weights of the model are scale-invariant, as `Invariances.to_json` writes it
    diverged.json      why it ended early, for the other processes of the command: none of them tries it again

Every file but the metrics is replaced as a whole, so a killed process leaves the old one or the new one. A line of
metrics beyond the checkpoint belongs to an epoch that will run again. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tangential.experiments.runs.files import append_line, corrupt, read_object, replace_json, replace_text
from tangential.experiments.settings.former_names import current_names
from tangential.telemetry.json_lines import json_lines

SETTINGS = "settings.json"
ENVIRONMENT = "environment.json"
DATA = "data.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint-previous.pt"
TELEMETRY = "telemetry.jsonl"
INVARIANCES = "invariances.json"
DIVERGED = "diverged.json"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk: a training of one optimizer from one seed.

    Args:
        path: The folder; it need not exist yet.

    Examples:
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
    def data(self) -> Path:
        """Where the identity of the data lies."""
        return self.path / DATA

    @property
    def telemetry(self) -> Path:
        """Where the figures of each weight lie, if the run was watched."""
        return self.path / TELEMETRY

    @property
    def invariances(self) -> Path:
        """Where the scale-invariances of the model's weights lie, as `Invariances.to_json` writes them."""
        return self.path / INVARIANCES

    def exists(self) -> bool:
        """Whether the run was begun; a folder that was made but holds nothing yet was not.

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
        """Read the settings, with the present names of what earlier versions called otherwise.

        Raises:
            ValueError: The file is not a JSON object.
        """
        return current_names(read_object(self.path / SETTINGS))

    def environment(self) -> dict[str, Any]:
        """Read the environment that the run was last started in.

        Raises:
            ValueError: The file is not a JSON object.
        """
        return read_object(self.path / ENVIRONMENT)

    def metrics(self) -> list[dict[str, Any]]:
        """Read one record per epoch; a last line that was cut off by a kill does not count.

        Raises:
            ValueError: Another line is broken, or the epochs are not 1, 2, 3, ...
        """
        path = self.path / METRICS
        records: list[dict[str, Any]] = []
        try:
            for number, record, _ in json_lines(path):
                if not isinstance(record, dict) or record.get("epoch") != number:
                    raise ValueError(f"line {number} is not the record of epoch {number}")
                records.append(record)
        except ValueError as error:
            raise corrupt(path, str(error)) from error
        return records

    def diverged(self) -> str:
        """Why it ended early; empty if it did not.

        Raises:
            ValueError: The file is not a JSON object.
        """
        path = self.path / DIVERGED
        return str(read_object(path).get("reason")) if path.exists() else ""

    def mark_diverged(self, reason: str) -> None:
        """Record that the run ended early: it would end so again."""
        replace_json(self.path / DIVERGED, {"reason": reason})

    def try_again(self) -> None:
        """Forget that the run ended early."""
        (self.path / DIVERGED).unlink(missing_ok=True)

    def start(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Make the folder and write both files, the settings last: with them the run exists.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        replace_json(self.path / ENVIRONMENT, environment)
        replace_json(self.path / SETTINGS, settings)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one epoch to the metrics; it is on the disk when this returns.

        Raises:
            ValueError: A value that JSON has no number for (NaN, infinity).
            OSError: The disk is full or the folder cannot be written.
        """
        append_line(self.path / METRICS, record)

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

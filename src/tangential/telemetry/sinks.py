"""Sinks of records: a JSON-lines file, TensorBoard, Weights & Biases, MLflow. Each is called with every record."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterable
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from tangential.telemetry.json_lines import json_lines
from tangential.telemetry.records import Record

FILE = "telemetry.jsonl"
"""The name of the file in a run folder."""

DIGITS = 6
"""Significant digits on disk; the measurement itself is not better in float32."""


class JsonLines:
    """Append records to `telemetry.jsonl`, one JSON object per line, so that a killed process leaves whole lines.

    Args:
        folder: The run folder; it is made if it is not there.

    A link in place of the file is refused, and never followed: it may lead to any file of the user's.

    Raises:
        OSError: The folder cannot be made or read.
        ValueError: The file holds something else, or is a link.

    Examples:
        >>> import tempfile
        >>> sink = JsonLines(tempfile.mkdtemp())
        >>> sink({"step": 10, "epoch": None, "summary": {}})
        >>> read_records(sink.path)
        [{'step': 10, 'epoch': None, 'summary': {}}]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._last, self._end = self._whole(None)

    def __call__(self, record: Record) -> None:
        """Append a record; it has left the process when this returns.

        Raises:
            ValueError: The file is already further than this step.
            OSError: The disk is full or the file cannot be written.
        """
        if record["step"] <= self._last:
            raise ValueError(
                f"{self.path} has step {self._last} already, and step {record['step']} came: load the telemetry's"
                " state to go on with a run, or choose another folder for a new one"
            )
        line = json.dumps(_rounded(record), allow_nan=False).encode() + b"\n"
        self._cut(None)
        try:
            with self._opened(os.O_APPEND | os.O_CREAT) as file:
                file.write(line)
        except OSError as error:  # without a file's name where the disk is full
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._last, self._end = record["step"], self._end + len(line)

    def rewind(self, step: int) -> None:
        """Drop the records beyond this step: a resumed run will make them again."""
        self._end = -1
        self._cut(step)

    def _cut(self, step: int | None) -> None:
        """Cut off what lies beyond `step`, and a line that a kill or a full disk left half.

        Not when the sink is made: other processes of a distributed run make one too, and only the first writes.
        """
        size = self.path.lstat().st_size if os.path.lexists(self.path) else 0
        if size != self._end:
            self._last, self._end = self._whole(step)
            if size > self._end:
                with self._opened(0) as file:
                    file.truncate(self._end)

    def _opened(self, flags: int) -> BinaryIO:
        """The file for writing, which is none that a link leads to."""
        no_follow = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # Windows has the second of them
        return os.fdopen(os.open(self.path, os.O_WRONLY | no_follow | flags, 0o666), "wb" if not flags else "ab")

    def _whole(self, step: int | None) -> tuple[int, int]:
        """The step of the last whole record, up to `step`, and where it ends in the file."""
        if self.path.is_symlink():
            raise ValueError(f"{self.path} is a link; move it away to go on, records go to a file of the folder itself")
        last, end = 0, 0
        for record, stop in _lines(self.path):
            if step is not None and record["step"] > step:
                break
            last, end = record["step"], stop
        return last, end


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Records of a `telemetry.jsonl`; a last line that was cut off by a kill does not count.

    Args:
        path: The file; without it there are no records.

    Raises:
        ValueError: Another line is not a record, or its step does not come after that of the line before.
    """
    return [record for record, _ in _lines(Path(path))]


def _lines(path: Path) -> Iterable[tuple[Record, int]]:
    """Every whole line as a record, and where it ends in the file."""
    last = 0
    try:
        for number, record, end in json_lines(path):
            step = record.get("step") if isinstance(record, dict) else None
            if not isinstance(step, int) or isinstance(step, bool):
                raise ValueError(f"line {number} is not a record")
            if step <= last:
                raise ValueError(f"line {number} has step {step} after step {last}")
            last = step
            yield cast(Record, record), end
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); move it away to go on") from error


class TensorBoard:
    """Write records as scalars through `torch.utils.tensorboard`.

    Args:
        target: A `SummaryWriter`, or the folder for a new one.
        weights: Write the metrics of every weight too, not only the quantiles over them.

    Raises:
        ImportError: The package tensorboard is not installed.
    """

    def __init__(self, target: Any, *, weights: bool = False) -> None:
        if not hasattr(target, "add_scalar"):
            target = _needed("torch.utils.tensorboard", package="tensorboard").SummaryWriter(str(target))
        self.writer = target
        self._weights = weights

    def __call__(self, record: Record) -> None:
        """Write one record."""
        for name, value in scalars(record, weights=self._weights).items():
            self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()


class WandB:
    """Log records to Weights & Biases, against their own step `telemetry/step`.

    Args:
        run: A run; None for the one that `wandb.init` began.
        weights: Log the metrics of every weight too.
        commit: End a row of the history with each record. By default a record joins the row of your next `log`, so that
            steps you number yourself stay in order; choose True if nothing else logs, or less often.

    Raises:
        ImportError: The package wandb is not installed.
        ValueError: No run was begun.
    """

    def __init__(self, run: Any = None, *, weights: bool = False, commit: bool = False) -> None:
        run = run or _needed("wandb").run
        if run is None:
            raise ValueError("WandB: no run; call wandb.init() first, or pass the run")
        run.define_metric("telemetry/step")
        run.define_metric("telemetry/*", step_metric="telemetry/step")
        self.run = run
        self._weights, self._commit = weights, commit

    def __call__(self, record: Record) -> None:
        """Log one record."""
        values = scalars(record, weights=self._weights) | {"telemetry/step": record["step"]}
        self.run.log(values, commit=self._commit)


class MLflow:
    """Log records as metrics of an MLflow run; what its names may not hold becomes an underscore.

    Args:
        run_id: The run; None for the active one.
        weights: Log the metrics of every weight too.

    Raises:
        ImportError: Neither mlflow nor mlflow-skinny is installed.
    """

    MOST = 1000
    """Metrics per call, which is MLflow's own limit."""

    def __init__(self, run_id: str | None = None, *, weights: bool = False) -> None:
        self._mlflow = _needed("mlflow", package="mlflow-skinny")
        self._run_id = run_id
        self._weights = weights
        self._names: dict[str, str] = {}

    def __call__(self, record: Record) -> None:
        """Log one record."""
        values = {self._allowed(name): x for name, x in scalars(record, weights=self._weights).items()}
        left = iter(values.items())
        while some := dict(islice(left, self.MOST)):
            self._mlflow.log_metrics(some, step=record["step"], run_id=self._run_id)

    def _allowed(self, name: str) -> str:
        """The name with characters that MLflow allows; different names stay different."""
        if name not in self._names:
            clean = re.sub(r"[^A-Za-z0-9_\-./: ]|(?<=/)\.+(?=/)|(?<=/)(?=/)", "_", name)
            if len(clean) > 200 or clean in self._names.values():
                clean = f"{clean[:200]} {sha1(name.encode(errors='replace')).hexdigest()[:8]}"
            self._names[name] = clean
        return self._names[name]


def scalars(record: Record, *, weights: bool = False) -> dict[str, float]:
    """Names and numbers of a record, for loggers: `telemetry/angle/median`, `telemetry/weights/conv.weight/angle`.

    Args:
        record: One record.
        weights: The metrics of every weight too.

    Examples:
        >>> scalars({"step": 1, "summary": {"norm": {"median": 2.0}}, "weights": {}})
        {'telemetry/norm/median': 2.0}
    """
    found = {
        f"telemetry/{metric}/{level}": x for metric, levels in record["summary"].items() for level, x in levels.items()
    }
    for name, own in record.get("weights", {}).items() if weights else ():
        numbers = {metric: x for metric, x in own.items() if isinstance(x, (bool, int, float)) and metric != "blocks"}
        found |= {f"telemetry/weights/{name}/{metric}": float(x) for metric, x in numbers.items()}
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(x) for key, x in value.items()}
    return [_rounded(x) for x in value] if isinstance(value, list) else value


def _needed(module: str, package: str | None = None) -> Any:
    """An optional module, or an error with the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = package or module
        raise ImportError(f"this sink needs {package}: pip install {package}, or tangential[loggers]") from error

"""Files of one run folder, read for the report and checked: what passes can be compared, drawn and written.

A folder may come from a stranger. Every file has a bound on its size, nesting and number of lines, and every value
that is used has a type and a range. Whatever is wrong is a ValueError with the name of the file (or an OSError if the
file cannot be read, which is no damage); the caller decides whether the run is left out or nothing is reported.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import numpy as np

from tangential.experiments.report import layers
from tangential.experiments.report.layers import Layers
from tangential.experiments.report.series import Series
from tangential.experiments.report.values import check_depth, is_count, is_number
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import CHECKPOINT, ENVIRONMENT, METRICS, PREVIOUS, SETTINGS, RunFolder
from tangential.experiments.task import Headline
from tangential.invariances import Invariances
from tangential.invariances import table as facts
from tangential.telemetry.json_lines import json_lines

SCORE = "test_"
"""How the name of a score begins in the metrics."""

_LOSS = "train_loss"
_MIB = 1 << 20
_BOUNDS = {SETTINGS: _MIB, ENVIRONMENT: _MIB, METRICS: 128 * _MIB}
_EPOCHS, _NUMBERS = 200_000, 5_000_000
_NAME = 1000  # letters of a name: of an optimizer, a metric, a score
_FOREIGN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Facts:
    """Which weights of a run's model are scale-invariant: a summary, notes, and the rows of a table."""

    summary: str
    notes: tuple[str, ...]
    rows: tuple[facts.Row, ...]


@dataclass(frozen=True)
class Run:
    """One run as the report needs it, whatever program wrote it.

    Args:
        curves: Quantity -> its values over the epochs or steps; none is empty.
        finished: Whether all of its epochs are there.
        progress: How far it is, in words.
        layers: The telemetry of its weights, if there is any.
        invariances: Which weights of its model are scale-invariant, if that was analysed.
        pages: HTML pages of other commands in its folder, such as that of `tangential neighbours`.
    """

    curves: dict[str, Series]
    finished: bool = True
    progress: str = ""
    layers: Layers | None = None
    invariances: Facts | None = None
    pages: tuple[Path, ...] = ()


def candidates(folders: Iterable[Path]) -> list[RunFolder]:
    """Folders that hold a file of a run, whole or broken: these folders and those directly in them, each once.

    Raises:
        ValueError: One of the folders does not exist or holds no run.
    """
    runs: dict[Path, RunFolder] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; name the --out of a `tangential train`")
        found = [path for path in (folder, *sorted(folder.iterdir())) if _is_begun(path)]
        if not found:
            raise ValueError(
                f"{folder}: no run in it; a run is a folder with a {SETTINGS}, as `tangential train` makes"
            )
        runs.update((path.resolve(), RunFolder(path)) for path in found)
    return list(runs.values())


def _is_begun(folder: Path) -> bool:
    for name in (SETTINGS, METRICS, CHECKPOINT, PREVIOUS):
        try:
            (folder / name).lstat()
        except PermissionError:
            return True  # reading it will tell
        except OSError:
            continue  # no such file, no folder, a loop of links
        return True
    return False


def read(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any], Run]:
    """Read settings, environment and results of a run.

    Raises:
        ValueError: A file is broken.
        OSError: A file cannot be read.
    """
    for name, most in _BOUNDS.items():
        _check_size(folder.path / name, most)
    settings, environment = folder.settings(), folder.environment()
    for name, value in ((SETTINGS, settings), (ENVIRONMENT, environment)):
        try:
            check_depth(value)
        except ValueError as error:
            raise corrupt(folder.path / name, str(error)) from error
    try:
        score = _checked(settings)
    except ValueError as error:
        raise corrupt(folder.path / SETTINGS, str(error)) from error
    try:
        done, curves = _curves(folder.path / METRICS, [_LOSS, *([SCORE + score.name] if score else [])])
    except ValueError as error:
        raise corrupt(folder.path / METRICS, str(error)) from error
    watched = layers.read(folder.telemetry)
    if watched is not None and watched.unit == "epoch":
        curves = _medians(watched) | curves
    run = Run(
        curves=curves,
        finished=done >= settings["epochs"],
        progress=f"epoch {done} of {settings['epochs']}",
        layers=watched,
        invariances=_facts(folder.invariances, settings["optimizer"]),
        pages=tuple(path for path in sorted(folder.path.glob("*.html")) if path.is_file()),
    )
    return settings, environment, run


def headline(settings: Mapping[str, Any]) -> Headline | None:
    """The score that a run is about, as its settings have it; None where they have none.

    Raises:
        ValueError: The settings have something else in its place.
    """
    given = settings.get("headline")
    if given is None:
        return None
    kinds = {"name": _is_name, "label": _is_name, "scale": _is_scale, "higher_is_better": _is_bool}
    if not isinstance(given, dict) or not all(fits(given.get(name)) for name, fits in kinds.items()):
        raise ValueError(f"headline={short_repr(given)}: needs a name, a label, a scale and higher_is_better")
    return Headline(**{name: given[name] for name in kinds})


def _checked(settings: Mapping[str, Any]) -> Headline | None:
    """Check the settings that a report needs, and give the headline."""
    kinds = {"optimizer": _is_name, "seed": is_count, "epochs": _is_length, "compared": _is_compared}
    for name, fits in kinds.items():
        if name not in settings:
            raise ValueError(f"it has no {name}")
        if not fits(settings[name]):
            raise ValueError(f"{name} cannot be {short_repr(settings[name])}")
    return headline(settings)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME


def _is_length(value: Any) -> bool:
    return is_count(value) and value >= 0


def _is_scale(value: Any) -> bool:
    return is_number(value) and 0 < value <= 1e9


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_compared(value: Any) -> bool:
    """Projected optimizer -> its baseline, or None."""
    return isinstance(value, dict) and all(other is None or isinstance(other, str) for other in value.values())


def _check_size(path: Path, most: int) -> None:
    if path.exists() and path.stat().st_size > most:
        raise corrupt(path, f"it is larger than {most // _MIB} MiB")


def _curves(path: Path, needed: list[str]) -> tuple[int, dict[str, Series]]:
    """Number of epochs, and every number of the metrics over the epochs that have it."""
    points: dict[str, tuple[array[int], array[float]]] = {}
    number = total = 0
    for number, record, _ in json_lines(path):
        if not isinstance(record, dict) or record.get("epoch") != number:
            raise ValueError(f"line {number} is not the record of epoch {number}")
        _check_record(record, needed)
        for key, value in record.items():
            if key != "epoch" and is_number(value):
                x, y = points.setdefault(key, (array("q"), array("d")))
                x.append(number)
                y.append(value)
        total += len(record)
        if number > _EPOCHS or total > _NUMBERS:
            raise ValueError(f"it has more than {_EPOCHS:,} epochs or {_NUMBERS:,} numbers")
    return number, {key: Series(np.array(x), np.array(y)) for key, (x, y) in points.items()}


def _check_record(record: Mapping[str, Any], needed: list[str]) -> None:
    for name in needed:
        if not is_number(record.get(name)):
            found = f", but {short_repr(record[name])}" if name in record else ""
            raise ValueError(f"an epoch has no {name}{found}")
    if not any(key.startswith(SCORE) and is_number(value) for key, value in record.items()):
        raise ValueError(f"an epoch has no score, a number whose name begins with {SCORE}")
    if any(len(key) > _NAME for key in record):
        raise ValueError(f"the name of a metric has more than {_NAME} letters")


def _medians(watched: Layers) -> dict[str, Series]:
    """The medians over weights, for quantities that the metrics do not have."""
    names = {"norm": "weight_norm", "effective_step": "effective_step", "angle": "angle"}
    found = {}
    for figure, key in names.items():
        there = np.isfinite(watched.medians[figure])
        if there.any():
            found[key] = Series(watched.x[there], watched.medians[figure][there])
    return found


def _facts(path: Path, optimizer: str) -> Facts | None:
    if not path.exists():
        return None
    try:
        if not path.is_file() or path.stat().st_size > 32 * _MIB:
            raise ValueError("it is no regular file of at most 32 MiB")
        found = Invariances.from_json(path.read_text("utf-8"))
        verdicts = [found.verdict(name) for name in found]
        return Facts(facts.summary(verdicts), tuple(map(str, found.notes)), tuple(facts.rows(verdicts)))
    except _FOREIGN as error:
        why = short_repr(f"{type(error).__name__}: {error}")
        raise ValueError(f"{path.parent}: {path.name} of {optimizer} is broken ({why}); delete that file") from error

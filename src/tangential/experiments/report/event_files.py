"""Runs that other programs logged for TensorBoard: event files as a comparison.

A folder with event files is a run, named by its path. Runs whose names differ only in `seed0`, `seed-1`, `seed=2`, ...
are the seeds of one group. Every scalar is a curve; hyper-parameters, where they were logged, are the settings. What
cannot be read, or is not finite, is left out, and the notes name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from tangential.experiments.report.comparison import NAMED, Comparison, Group
from tangential.experiments.report.event_records import events
from tangential.experiments.report.run_files import Run
from tangential.experiments.report.series import Series
from tangential.experiments.report.values import is_count, is_number

_EVENTS = "*tfevents*"
_SEED = re.compile(r"[-_./ ]?seed[-_= ]?(\d{1,18})", re.IGNORECASE)
_SCORES = ("acc", "f1", "map", "recall", "bleu", "score", "perplexity", "eval", "val", "test")


@dataclass
class _Log:
    """What the event files of one run hold: tag -> step -> value, hyper-parameters, and tags that lost points."""

    points: dict[str, dict[int, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    plugins: dict[str, str] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        """Add an event; of a step that was logged twice, because a run was resumed, the later value counts."""
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            self._forget(event.step)
        for value in event.summary.value:
            plugin = value.metadata.plugin_data
            self.plugins.setdefault(value.tag, plugin.plugin_name)  # only the first event of a tag has it
            if plugin.plugin_name == "hparams":
                self.settings |= _hyperparameters(value.tag, plugin.content)
            elif value.HasField("simple_value"):
                self._keep(value.tag, event.step, value.simple_value)
            elif value.HasField("tensor") and self.plugins[value.tag] == "scalars":
                self._keep(value.tag, event.step, _single(value.tensor))

    def curves(self) -> dict[str, Series]:
        """A series per tag, in the order of steps."""
        made = {}
        for tag, points in self.points.items():
            if points:
                steps = sorted(points)
                made[tag] = Series(np.array(steps), np.array([points[step] for step in steps], dtype=np.float64))
        return made

    def _keep(self, tag: str, step: int, value: Any) -> None:
        points = self.points.setdefault(tag, {})
        if is_number(value) and is_count(step):
            points[step] = float(value)
        elif tag not in self.dropped:
            self.dropped.append(tag)

    def _forget(self, first: int) -> None:
        """Drop what a writer that was resumed logs again."""
        for tag, points in self.points.items():
            self.points[tag] = {step: value for step, value in points.items() if step < first}


def gather_events(folders: Iterable[Path]) -> Comparison:
    """Read every run under some folders.

    Args:
        folders: Folders with event files, in them or below.

    Raises:
        ValueError: The package `tensorboard` is missing, a folder does not exist or holds no event file, or no run has
            a scalar.
    """
    groups: dict[str, Group] = {}
    folders = list(folders)
    logs = [(name, folder, _read(folder)) for name, folder in _run_folders(folders)]
    empty = [str(folder) for _, folder, log in logs if not log.curves()]
    damage = [line for _, _, log in logs for line in log.damage]
    for name, _, log in logs:
        if curves := log.curves():
            _add(groups, name, Run(curves), log.settings)
    if not groups:
        why = f"cannot be read ({damage[0]})" if damage else "hold no scalar; a report is made of scalars"
        raise ValueError(f"{empty[0]}: its event files {why}")
    dropped = [tag for _, _, log in logs for tag in log.dropped]
    comparison = Comparison(tuple(groups.values()), 0, unit="step", notes=tuple(_notes(dropped, empty, damage)))
    title = " and ".join(dict.fromkeys(folder.resolve().name for folder in folders))
    return replace(comparison, title=title, scores=_scores(comparison.quantities()))


def _run_folders(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """`(name, folder)` of every run, in the order of their names."""
    for root in folders:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; name one with TensorBoard's event files")
        found = sorted({path.parent for path in root.rglob(_EVENTS) if path.is_file()})
        if not found:
            raise ValueError(f"{root}: no event file (events.out.tfevents...) in it or below")
        for folder in found:
            own = folder.relative_to(root).as_posix()
            name = root.resolve().name if own == "." else own
            yield (name if len(folders) == 1 or own == "." else f"{root.resolve().name}/{own}"), folder


def _add(groups: dict[str, Group], name: str, run: Run, settings: dict[str, Any]) -> None:
    """Put a run into the group of its seeds; one whose seed or hyper-parameters do not fit there stands for itself."""
    match = _SEED.search(name)
    label = (name[: match.start()] + name[match.end() :]).strip("-_./ ") if match else name
    seed = int(match[1]) if match else 0
    shared = {key: value for key, value in settings.items() if key.lower() != "seed"}
    for candidate in chain((label or name, name), (f"{name} ({number})" for number in count(2))):
        group = groups.setdefault(candidate, Group(candidate, None, {}, shared, {}))
        if seed not in group.runs and group.settings == shared:
            group.runs[seed] = run
            return


def _read(folder: Path) -> _Log:
    """The event files of one folder, the oldest first: their names hold the time."""
    log = _Log()
    for path in sorted(folder.glob(_EVENTS)):
        if not path.is_file():  # a pipe would be waited for
            continue
        try:
            for event in events(path, log.damage.append):
                log.add(event)
        except OSError as error:
            log.damage.append(f"{error.filename or path}: {error.strerror or error}")
    return log


def _single(tensor: Any) -> float | None:
    """The number in a tensor; None if it holds none, or not one."""
    from tensorboard.util import tensor_util

    try:
        return float(tensor_util.make_ndarray(tensor).reshape(-1)[0])
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _hyperparameters(tag: str, content: bytes) -> dict[str, Any]:
    """What was logged for TensorBoard's plugin hparams at the start of a session."""
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.error import HParamsError

    if tag != metadata.SESSION_START_INFO_TAG:
        return {}
    try:
        found = metadata.parse_session_start_info_plugin_data(content).hparams
    except (DecodeError, HParamsError):
        return {}
    return {name: getattr(value, value.WhichOneof("kind") or "string_value") for name, value in sorted(found.items())}


def _scores(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags whose last values make the table: first those that sound like scores, then losses and all else."""

    def place(tag: str) -> int:
        return next((at for at, word in enumerate(_SCORES) if word in tag.lower() and "loss" not in tag.lower()), 99)

    return tuple(sorted(tags, key=place))


def _notes(dropped: Sequence[str], empty: Sequence[str], damage: Sequence[str]) -> Iterator[str]:
    if dropped:
        yield f"Points that are NaN or infinite are left out: {_some(dropped)}."
    if empty:
        yield f"Runs without a scalar are left out: {_some(empty)}."
    for line in damage[:NAMED]:
        yield f"Damaged: {line}."
    if len(damage) > NAMED:
        yield f"Damaged: {len(damage) - NAMED} more event files."


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[: 2 * NAMED]) + (f" and {len(names) - 2 * NAMED} more" if len(names) > 2 * NAMED else "")

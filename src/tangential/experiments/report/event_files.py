"""Runs that other programs logged for TensorBoard: event files as a comparison.

A folder with event files is a run, named by its path. Runs whose names differ only in `seed0`, `seed-1`, `seed=2`, ...
are the seeds of one group. Every scalar is a curve; hyper-parameters, where they were logged, are the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from tangential.experiments.report.comparison import Comparison, Group, Run
from tangential.experiments.report.series import Series

_EVENTS = "*tfevents*"
_SEED = re.compile(r"[-_./ ]?seed[-_= ]?(\d+)", re.IGNORECASE)
_SCORES = ("acc", "f1", "map", "recall", "bleu", "score", "perplexity", "eval", "val", "test")


def gather_events(folders: Iterable[Path]) -> Comparison:
    """Read every run under some folders.

    Args:
        folders: Folders with event files, in them or below.

    Raises:
        ValueError: The package `tensorboard` is missing, a folder does not exist or holds no event file, or no run has
            a scalar.
    """
    groups: dict[str, Group] = {}
    dropped: list[str] = []
    empty: list[str] = []
    folders = list(folders)
    for name, folder in _run_folders(folders):
        curves, settings = _read(folder, dropped)
        if not curves:
            empty.append(str(folder))
            continue
        _add(groups, name, Run(curves), settings)
    if not groups:
        raise ValueError(f"{empty[0]}: its event files hold no scalar; a report is made of scalars")
    comparison = Comparison(tuple(groups.values()), 0, unit="step", notes=tuple(_notes(dropped, empty)))
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


def _read(folder: Path, dropped: list[str]) -> tuple[dict[str, Series], dict[str, Any]]:
    """The curves and the hyper-parameters of one run; tags that lost points to NaN or infinity are added to a list."""
    events = _accumulator(folder)
    tags = events.Tags()
    curves = {}
    for tag in tags["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        _keep(curves, tag, points, dropped)
    for tag in tags["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            points = [(event.step, _single(event.tensor_proto)) for event in events.Tensors(tag)]
            _keep(curves, tag, points, dropped)
    return curves, _hyperparameters(events)


def _accumulator(folder: Path) -> Any:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; run: pip install 'tangential[tensorboard]'") from error
    # 0 keeps every scalar; of images, sounds and the like one is more than is needed.
    sizes = {
        "scalars": 0,
        "tensors": 0,
        "images": 1,
        "audio": 1,
        "histograms": 1,
        "compressedHistograms": 1,
        "graph": 1,
    }
    events = EventAccumulator(str(folder), size_guidance=sizes)
    try:
        events.Reload()
    except Exception as error:  # whatever a file that is none raises in the reader's own code
        raise ValueError(f"{folder}: its event files cannot be read ({error})") from error
    return events


def _single(tensor: Any) -> float:
    from tensorboard.util import tensor_util

    return float(tensor_util.make_ndarray(tensor).reshape(-1)[0])


def _keep(curves: dict[str, Series], tag: str, points: Sequence[tuple[int, float]], dropped: list[str]) -> None:
    """Add a curve; of a step that was logged twice, because a run was resumed, the later value counts."""
    finite = {step: value for step, value in points if np.isfinite(value)}
    if any(not np.isfinite(value) for _, value in points):
        dropped.append(tag)
    if finite:
        steps = sorted(finite)
        curves[tag] = Series(np.array(steps), np.array([finite[step] for step in steps], dtype=np.float64))


def _hyperparameters(events: Any) -> dict[str, Any]:
    """What TensorBoard's hparams plugin was told, if anything."""
    from tensorboard.plugins.hparams import metadata

    try:
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        told = metadata.parse_session_start_info_plugin_data(content).hparams
    except (KeyError, ValueError):
        return {}
    return {name: getattr(value, value.WhichOneof("kind") or "string_value") for name, value in sorted(told.items())}


def _scores(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags whose last values make the table: what sounds like a score first, losses and all else after it."""

    def place(tag: str) -> int:
        return next((at for at, word in enumerate(_SCORES) if word in tag.lower() and "loss" not in tag.lower()), 99)

    return tuple(sorted(tags, key=place))


def _notes(dropped: Sequence[str], empty: Sequence[str]) -> Iterator[str]:
    if dropped:
        yield f"Points that are NaN or infinite are left out: {', '.join(dict.fromkeys(dropped))}."
    if empty:
        yield f"Runs without a scalar are left out: {', '.join(empty)}."

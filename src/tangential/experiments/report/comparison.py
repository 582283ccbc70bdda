"""Runs gathered into the groups that are compared: one optimizer's runs, by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tangential.experiments.report import layers
from tangential.experiments.report.layers import Layers
from tangential.experiments.report.series import Series
from tangential.experiments.runs.files import corrupt
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.task import Headline

_SETTINGS = {"optimizer": str, "seed": int, "epochs": int, "compared": dict}
_LOSS, _SCORE = "train_loss", "test_"


@dataclass(frozen=True)
class Run:
    """One run as the report sees it, whatever wrote it.

    Args:
        curves: Quantity -> what it was over the epochs or steps; none is empty.
        finished: Whether it has run to its end.
        progress: How far it is, in words.
        layers: What each weight did, if that was watched.
        invariances: The facts about its model's weights, as `Invariances.to_json` says them, if they are known.
        pages: The pages that other commands left in its folder, `tangential neighbours` say.
    """

    curves: dict[str, Series]
    finished: bool = True
    progress: str = ""
    layers: Layers | None = None
    invariances: str | None = None
    pages: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Group:
    """The runs of one optimizer in one folder of runs.

    Args:
        label: What it is called in tables and plots.
        baseline: The label of the group it is compared with, if any.
        runs: Seed -> run.
        settings: What was asked, the same for all of them but the seed.
        environment: Where the first of them ran.
    """

    label: str
    baseline: str | None
    runs: dict[int, Run]
    settings: dict[str, Any]
    environment: dict[str, Any]

    @property
    def finished(self) -> dict[int, Run]:
        """Those that have run to their end: what the table is about."""
        return {seed: run for seed, run in self.runs.items() if run.finished}


@dataclass(frozen=True)
class Comparison:
    """What a report is about.

    Args:
        groups: In the order of their recipe.
        unfinished: How many runs have not run to their end.
        unit: What the curves are over: `epoch` or `step`.
        scores: The quantities whose last values the table shows; a difference is taken of the first.
        notes: What a reader must know about how the runs were read.
        title: What stands above it all.
        headlines: Of the scores that tasks are about, how they are shown.
    """

    groups: tuple[Group, ...]
    unfinished: int
    unit: str = "epoch"
    scores: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    title: str = "runs"
    headlines: Mapping[str, Headline] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """What a group is: an optimizer, or just a run where nothing is known about its optimizer."""
        return "optimizer" if all("optimizer" in group.settings for group in self.groups) else "run"

    def pairs(self) -> list[tuple[Group, Group]]:
        """List the (baseline, projected) groups that are both there."""
        by_label = {group.label: group for group in self.groups}
        return [(by_label[g.baseline], g) for g in self.groups if g.baseline in by_label]

    def quantities(self) -> list[str]:
        """List the quantities that any run has, scores first, each once."""
        curves = (key for group in self.groups for run in group.runs.values() for key in run.curves)
        return list(dict.fromkeys((*self.scores, *curves)))


def gather(runs: Iterable[RunFolder], *, follow: bool = False) -> Comparison:
    """Read run folders and sort them into groups.

    Runs of one optimizer in one folder must differ in nothing but their seed. Where runs of several folders are
    compared, a group is called `folder/optimizer`.

    Args:
        runs: Run folders, as `tangential.experiments.runs.folder.find` gives them.
        follow: Whether unfinished runs are drawn too; otherwise they are left out, and one must be finished.

    Raises:
        ValueError: A broken file, runs that do not belong together, or no finished run.
    """
    runs = list(runs)
    names = _folder_names([run.path.parent for run in runs])
    groups: dict[str, Group] = {}
    unfinished = 0
    for run in runs:
        settings, metrics = _checked(run)
        finished = len(metrics) >= settings["epochs"]
        unfinished += not finished
        if finished or follow:
            group = _group(run, settings, names[run.path.parent], groups)
            group.runs[settings["seed"]] = _run(run, metrics, settings["epochs"])
    if not groups and not follow:
        raise ValueError(
            f"no finished run among {unfinished}; `tangential train` with the same --out goes on with them, "
            "`tangential report --serve` follows them"
        )
    return _compared(tuple(sorted(groups.values(), key=_place)), unfinished)


def is_loss(key: str) -> bool:
    """Say whether a quantity is a loss, which every task has, and not the score that it is about.

    Example:
        >>> is_loss("test_loss"), is_loss("test_accuracy")
        (True, False)
    """
    return key.endswith("loss")


def _compared(groups: tuple[Group, ...], unfinished: int) -> Comparison:
    headlines: dict[str, Headline] = {}
    for told in filter(None, (headline(group.settings) for group in groups)):
        headlines.setdefault(_SCORE + told.name, told)
    comparison = Comparison(groups, unfinished, headlines=headlines)
    measured = [key for key in comparison.quantities() if key.startswith(_SCORE)]
    first = [key for key in headlines if key in measured]
    scores = dict.fromkeys([*first, *(key for key in measured if not is_loss(key))]) or measured
    recipes = dict.fromkeys(str(group.settings.get("recipe", "runs")) for group in groups)
    return replace(comparison, scores=tuple(scores), title=" and ".join(recipes) or "runs")


def headline(settings: Mapping[str, Any]) -> Headline | None:
    """The score that a run is about, as its settings have it; None where they have none.

    Raises:
        ValueError: The settings have something else in its place.
    """
    told = settings.get("headline")
    if told is None:
        return None
    kinds = {"name": str, "label": str, "scale": int | float, "higher_is_better": bool}
    if not isinstance(told, dict) or not all(isinstance(told.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"headline={told!r} has not a {', a '.join(kinds)}")
    return Headline(**{name: told[name] for name in kinds})


def _group(run: RunFolder, settings: dict[str, Any], prefix: str, groups: dict[str, Group]) -> Group:
    """The group of a run, a new one if it is the first."""
    baseline, label = settings["compared"].get(settings["optimizer"]), prefix + settings["optimizer"]
    shared = {name: value for name, value in settings.items() if name != "seed"}
    group = groups.setdefault(label, Group(label, baseline and prefix + baseline, {}, shared, run.environment()))
    if group.settings != shared or settings["seed"] in group.runs:
        raise ValueError(f"{run.path}: not the same settings as the other {label} runs beside it; report them apart")
    return group


def _checked(run: RunFolder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and metrics of a run, with what a report needs of them."""
    settings, metrics = run.settings(), run.metrics()
    for name, kind in _SETTINGS.items():
        if not isinstance(settings.get(name), kind):
            raise corrupt(run.path / "settings.json", f"it has no {name}")
    try:
        told = headline(settings)
    except ValueError as error:
        raise corrupt(run.path / "settings.json", str(error)) from error
    needed = [_LOSS, *([f"{_SCORE}{told.name}"] if told else [])]
    for record in metrics:
        for name in needed:
            if not _is_number(record.get(name)):
                raise corrupt(run.path / "metrics.jsonl", f"an epoch has no {name}")
        if not any(key.startswith(_SCORE) and _is_number(value) for key, value in record.items()):
            raise corrupt(
                run.path / "metrics.jsonl", f"an epoch has no score, a number whose name begins with {_SCORE}"
            )
    return settings, metrics


def _run(folder: RunFolder, metrics: Sequence[Mapping[str, Any]], epochs: int) -> Run:
    facts, watched = folder.invariances, layers.read(folder.telemetry)
    curves = _curves(metrics)
    if watched is not None and watched.unit == "epoch":
        curves = _medians(watched) | curves
    return Run(
        curves=curves,
        finished=len(metrics) >= epochs,
        progress=f"epoch {len(metrics)} of {epochs}",
        layers=watched,
        invariances=facts.read_text() if facts.exists() else None,
        pages=tuple(sorted(folder.path.glob("*.html"))),
    )


def _curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Every number of the metrics over the epochs that have it."""
    keys = dict.fromkeys(key for record in metrics for key in record if key != "epoch")
    curves = {}
    for key in keys:
        points = [(record["epoch"], record[key]) for record in metrics if _is_number(record.get(key))]
        if points:
            x, y = zip(*points, strict=True)
            curves[key] = Series(np.array(x), np.array(y, dtype=np.float64))
    return curves


def _medians(watched: Layers) -> dict[str, Series]:
    """The medians over weights, for what the metrics themselves do not have."""
    names = {"norm": "weight_norm", "effective_step": "effective_step", "angle": "angle"}
    found = {}
    for figure, key in names.items():
        there = np.isfinite(watched.medians[figure])
        if there.any():
            found[key] = Series(watched.x[there], watched.medians[figure][there])
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _folder_names(folders: Iterable[Path]) -> dict[Path, str]:
    """What stands before the labels of a folder's runs: nothing for a single folder, else a name that no other has."""
    folders = list(dict.fromkeys(folders))
    if len(folders) <= 1:
        return dict.fromkeys(folders, "")
    short = [folder.resolve().name for folder in folders]
    distinct = len(set(short)) == len(short)
    return {folder: f"{name if distinct else folder}/" for folder, name in zip(folders, short, strict=True)}


def _place(group: Group) -> tuple[str, int]:
    """Sort by folder, then in the order of the recipe, which the settings keep."""
    optimizer = group.settings["optimizer"]
    order: Sequence[str] = [*group.settings["compared"], optimizer]
    return group.label.removesuffix(optimizer), order.index(optimizer)

"""Run folders gathered into the groups that are compared: one optimizer's finished runs, by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tangential.runs import RunFolder, broken

Metrics = list[dict[str, Any]]

_SETTINGS = {"optimizer": str, "seed": int, "epochs": int, "compared": dict, "headline": dict}
_METRICS = ("weight_norm", "effective_step", "ms_per_step")


@dataclass(frozen=True)
class Group:
    """The finished runs of one optimizer in one folder of runs.

    Args:
        label: What it is called in tables and plots.
        baseline: The label of the group it is compared with, if any.
        runs: Seed -> one record per epoch; every run has as many epochs.
        settings: What was asked, the same for all of them but the seed.
        environment: Where the first of them ran.
    """

    label: str
    baseline: str | None
    runs: dict[int, Metrics]
    settings: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Groups in the order of their recipe, and how many runs were left out because they are not finished."""

    groups: tuple[Group, ...]
    unfinished: int

    def pairs(self) -> list[tuple[Group, Group]]:
        """List the (baseline, projected) groups that are both there."""
        by_label = {group.label: group for group in self.groups}
        return [(by_label[g.baseline], g) for g in self.groups if g.baseline in by_label]


def gather(runs: Iterable[RunFolder]) -> Comparison:
    """Read run folders and sort them into groups.

    Runs of one optimizer in one folder must differ in nothing but their seed. Where runs of several folders are
    compared, a group is called `folder/optimizer`.

    Args:
        runs: Run folders, as `tangential.runs.find` gives them.

    Raises:
        ValueError: A broken file, runs that do not belong together, or no finished run.
    """
    runs = list(runs)
    names = _folder_names([run.path.parent for run in runs])
    groups: dict[str, Group] = {}
    unfinished = 0
    for run in runs:
        settings, metrics = _checked(run)
        if len(metrics) < settings["epochs"]:
            unfinished += 1
            continue
        prefix = names[run.path.parent]
        baseline = settings["compared"].get(settings["optimizer"])
        label = prefix + settings["optimizer"]
        group = groups.setdefault(
            label, Group(label, baseline and prefix + baseline, {}, _without_seed(settings), run.environment())
        )
        if group.settings != _without_seed(settings) or settings["seed"] in group.runs:
            raise ValueError(
                f"{run.path}: not the same settings as the other {label} runs beside it; report them apart"
            )
        group.runs[settings["seed"]] = metrics
    if not groups:
        raise ValueError(
            f"no finished run among {unfinished}; `tangential train` with the same --out goes on with them"
        )
    return Comparison(tuple(sorted(groups.values(), key=_place)), unfinished)


def _checked(run: RunFolder) -> tuple[dict[str, Any], Metrics]:
    """Settings and metrics of a run, with what a report needs of them."""
    settings, metrics = run.settings(), run.metrics()
    for name, kind in _SETTINGS.items():
        if not isinstance(settings.get(name), kind):
            raise broken(run.path / "settings.json", f"it has no {name}")
    for name in ("train_loss", f"test_{settings['headline'].get('name')}", *_METRICS):
        if not all(isinstance(record.get(name), int | float) for record in metrics):
            raise broken(run.path / "metrics.jsonl", f"an epoch has no {name}")
    return settings, metrics


def _folder_names(folders: Iterable[Path]) -> dict[Path, str]:
    """What stands before the labels of a folder's runs: nothing for a single folder, else a name that no other has."""
    folders = list(dict.fromkeys(folders))
    if len(folders) == 1:
        return {folders[0]: ""}
    short = [folder.resolve().name for folder in folders]
    distinct = len(set(short)) == len(short)
    return {folder: f"{name if distinct else folder}/" for folder, name in zip(folders, short, strict=True)}


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _place(group: Group) -> tuple[str, int]:
    """Sort by folder, then in the order of the recipe, which the settings keep."""
    optimizer = group.settings["optimizer"]
    order: Sequence[str] = [*group.settings["compared"], optimizer]
    return group.label.removesuffix(optimizer), order.index(optimizer)

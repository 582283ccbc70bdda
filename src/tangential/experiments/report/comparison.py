"""Runs gathered into groups that are compared: the runs of one optimizer, by seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tangential.experiments.report.run_files import SCORE, Run, candidates, headline, read
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.task import Headline

NAMED = 10
"""At most so many runs that are left out are named with the reason, the others without."""

_LISTED = 200


@dataclass(frozen=True)
class Group:
    """The runs of one optimizer in one folder of runs.

    Args:
        label: Its name in tables and plots.
        baseline: The label of the group it is compared with, if any.
        runs: Seed -> run.
        settings: The settings of all its runs, without the seed.
        environment: Versions and machine of its first run.
    """

    label: str
    baseline: str | None
    runs: dict[int, Run]
    settings: dict[str, Any]
    environment: dict[str, Any]

    @property
    def finished(self) -> dict[int, Run]:
        """The finished runs, which the table is about."""
        return {seed: run for seed, run in self.runs.items() if run.finished}


@dataclass(frozen=True)
class Comparison:
    """Contents of a report.

    Args:
        groups: In the order of their recipe.
        unfinished: Number of unfinished runs.
        unit: What the curves are over: `epoch` or `step`.
        scores: The quantities whose last values the table shows; a difference is taken of the first.
        notes: What was left out, and why.
        title: Heading of the page.
        headlines: How the scores that tasks are about are shown.
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


@dataclass(frozen=True)
class _Member:
    """A run that was read, before it is in a group."""

    path: Path
    label: str
    baseline: str | None
    seed: int
    shared: dict[str, Any]
    environment: dict[str, Any]
    run: Run


@dataclass(frozen=True)
class _Problem:
    """A run that is left out, and why."""

    path: Path
    text: str


def gather_folders(folders: Sequence[Path], *, follow: bool = False) -> Comparison:
    """Read all runs in some folders; a broken one is left out and named in the notes.

    Args:
        folders: Run folders, or folders of run folders.
        follow: Whether unfinished runs are drawn too; otherwise they are left out, and one must be finished.

    Raises:
        ValueError: A folder does not exist or holds no run, or no run can be shown.
    """
    return gather(candidates(folders), follow=follow, skip_broken=True)


def gather(runs: Iterable[RunFolder], *, follow: bool = False, skip_broken: bool = False) -> Comparison:
    """Read run folders and sort them into groups.

    Runs of one optimizer in one folder must differ in nothing but their seed. Where runs of several folders are
    compared, a group is called `folder/optimizer`.

    Args:
        runs: Run folders, as `tangential.experiments.runs.folder.find` gives them.
        follow: Whether unfinished runs are drawn too; otherwise they are left out, and one must be finished.
        skip_broken: Whether a run that cannot be read, or that does not belong to its group, is left out and named in
            the notes; otherwise it is an error.

    Raises:
        ValueError: A broken file, runs that do not belong together, or no finished run.
        OSError: A file cannot be read.
    """
    runs = list(runs)
    prefixes = _folder_names([run.path.parent for run in runs])
    members: list[_Member] = []
    problems: list[_Problem] = []
    for run in runs:
        try:
            members.append(_member(run, prefixes[run.path.parent]))
        except Exception as error:  # with whatever a stranger's folder fails, the others are shown
            if not skip_broken:
                raise
            problems.append(_Problem(run.path, _explained(error, run.path)))
    shown = [member for member in members if follow or member.run.finished]
    groups = list(_groups(shown, problems))
    if problems and not skip_broken:
        raise ValueError(problems[0].text)
    unfinished = sum(not member.run.finished for member in members)
    if not groups and not follow:
        raise ValueError("; ".join(_named(problems)) or _nothing_finished(unfinished))
    notes = tuple(f"Left out: {problem}" for problem in _named(problems))
    return replace(_compared(tuple(sorted(groups, key=_place)), unfinished), notes=notes)


def is_loss(key: str) -> bool:
    """Whether a quantity is a loss, which every task has, and not the score that the task is about.

    Examples:
        >>> is_loss("test_loss"), is_loss("test_accuracy")
        (True, False)
    """
    return key.endswith("loss")


def _member(folder: RunFolder, prefix: str) -> _Member:
    settings, environment, run = read(folder)
    baseline = settings["compared"].get(settings["optimizer"])
    return _Member(
        path=folder.path,
        label=prefix + settings["optimizer"],
        baseline=baseline and prefix + baseline,
        seed=settings["seed"],
        shared={name: value for name, value in settings.items() if name != "seed"},
        environment=environment,
        run=run,
    )


def _explained(error: Exception, path: Path) -> str:
    """One line about a run that cannot be read, with its file."""
    if isinstance(error, OSError):
        return f"{error.filename or path}: {error.strerror or error}"
    return str(error) if type(error) is ValueError else f"{path}: {type(error).__name__}: {error}"


def _groups(members: Sequence[_Member], problems: list[_Problem]) -> Iterator[Group]:
    """Groups of the runs that agree; of runs with other settings than most of their group it says so."""
    for label in dict.fromkeys(member.label for member in members):
        own = [member for member in members if member.label == label]
        first = max(own, key=lambda one: sum(other.shared == one.shared for other in own))
        group = Group(label, first.baseline, {}, first.shared, first.environment)
        for member in own:
            differing = [name for name in group.settings if member.shared.get(name) != group.settings[name]]
            differing += [name for name in member.shared if name not in group.settings]
            if differing or member.seed in group.runs:
                why = f"it differs in {', '.join(differing[:3])}" if differing else f"seed {member.seed} is there twice"
                text = f"{member.path}: not the same settings as the other {label} runs beside it ({why}); "
                problems.append(_Problem(member.path, text + "report them apart"))
            else:
                group.runs[member.seed] = member.run
        yield group


def _named(problems: Sequence[_Problem]) -> list[str]:
    """A line for each of the first problems, and one for all others."""
    lines = [problem.text for problem in problems[:NAMED]]
    others = [problem.path.name for problem in problems[NAMED:]]
    if others:
        more = len(others) - _LISTED
        lines.append(f"{', '.join(others[:_LISTED])}{f' and {more} more' if more > 0 else ''}")
    return lines


def _nothing_finished(unfinished: int) -> str:
    return (
        f"no finished run among {unfinished}; `tangential train` with the same --out resumes them, "
        "`tangential report --serve` follows them"
    )


def _compared(groups: tuple[Group, ...], unfinished: int) -> Comparison:
    headlines: dict[str, Headline] = {}
    for each in filter(None, (headline(group.settings) for group in groups)):
        headlines.setdefault(SCORE + each.name, each)
    comparison = Comparison(groups, unfinished, headlines=headlines)
    measured = [key for key in comparison.quantities() if key.startswith(SCORE)]
    first = [key for key in headlines if key in measured]
    scores = dict.fromkeys([*first, *(key for key in measured if not is_loss(key))]) or measured
    recipes = dict.fromkeys(str(group.settings.get("recipe", "runs")) for group in groups)
    return replace(comparison, scores=tuple(scores), title=" and ".join(recipes) or "runs")


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

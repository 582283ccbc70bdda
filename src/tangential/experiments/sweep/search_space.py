"""Search space of a sweep: ranges and choices, typed as `optimizers.sgd.lr=1e-3..1` or `batch_size=32|64|128`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

from tangential.experiments.settings.overrides import override

if TYPE_CHECKING:
    from optuna import Trial

    from tangential.experiments.recipes import Recipe


@dataclass(frozen=True)
class Range:
    """One dimension of a search space: a setting with its interval or choices.

    Args:
        path: The setting, as in an override.
        choices: Values, as typed; empty for an interval.
        low: Lower end of the interval, included.
        high: Upper end, included.
        whole: Whether the interval is of integers.
    """

    path: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether the interval is sampled on a log scale: it is positive and spans an order of magnitude."""
        return self.low > 0 and self.high >= 10 * self.low

    def suggest(self, trial: Trial) -> str:
        """A value for a trial, as an override."""
        if self.choices:
            value = trial.suggest_categorical(self.path, self.choices)
        elif self.whole:
            value = trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log)
        else:
            value = trial.suggest_float(self.path, self.low, self.high, log=self.log)
        return f"{self.path}={value}"

    def __str__(self) -> str:
        return f"{self.path}={'|'.join(self.choices) or f'{self.low:g}..{self.high:g}'}"


def is_range(assignment: str) -> bool:
    """Whether an assignment is a range or a list of choices, not one value.

    Examples:
        >>> is_range("epochs=5"), is_range("optimizers.sgd.lr=0.01..1"), is_range("batch_size=32|64")
        (False, True, True)
    """
    value = assignment.partition("=")[2]
    return ".." in value or "|" in value


def read_ranges(recipe: Recipe, assignments: Sequence[str]) -> dict[str, list[Range]]:
    """Search space of each optimizer.

    Args:
        recipe: The recipe; `optimizers.*.lr` stands for each of its optimizers that has the setting.
        assignments: Ranges and choices, as typed.

    Returns:
        Optimizer -> its search space: its own ranges, and those of settings outside the optimizers.

    Raises:
        ValueError: Not a range, an end that the setting refuses, or a pair of which only one has ranges.
    """
    own: dict[str, list[Range]] = {name: [] for name in recipe.optimizers}
    shared: list[Range] = []
    for assignment in assignments:
        for each in _expanded(recipe, assignment):
            parts = each.path.split(".")
            if parts[0] == "optimizers" and len(parts) > 1:
                own[parts[1]].append(each)
            else:
                shared.append(each)
    for projected, baseline in recipe.baselines.items():
        if bool(own[projected]) != bool(own[baseline]):
            tuned, other = (projected, baseline) if own[projected] else (baseline, projected)
            raise ValueError(
                f"{tuned} has ranges and {other} has none: a tuned optimizer cannot be compared with an untuned one;"
                f" give {own[tuned][0].path.replace(f'.{tuned}.', f'.{other}.')} a range too"
            )
    searched = {name: [*ranges, *shared] for name, ranges in own.items() if ranges or not any(own.values())}
    if not any(searched.values()):
        raise ValueError("nothing to search; give a range, as in optimizers.sgd.lr=0.01..1 optimizers.sgdp.lr=0.01..1")
    return searched


def _expanded(recipe: Recipe, assignment: str) -> list[Range]:
    path, _, text = assignment.partition("=")
    if not path.startswith("optimizers.*."):
        return [_read(recipe, path, text)]
    setting = path.removeprefix("optimizers.*.")
    having = [name for name, make in recipe.optimizers.items() if setting in signature(make.func).parameters]
    if not having:
        raise ValueError(f"{assignment}: no optimizer of the recipe has {setting!r}")
    return [_read(recipe, f"optimizers.{name}.{setting}", text) for name in having]


def _read(recipe: Recipe, path: str, text: str) -> Range:
    if "|" in text:
        choices = tuple(text.split("|"))
        for choice in choices:
            override(recipe, f"{path}={choice}")
        return Range(path, choices=choices)
    ends = text.split("..")
    try:
        low, high = map(float, ends)
    except ValueError:
        raise ValueError(f"{path}={text}: write a range as 1e-4..1e-2, or choices as 16|32|64") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{path}={text}: the first end must be below the second")
    for end in ends:
        override(recipe, f"{path}={end}")
    return Range(path, low=low, high=high, whole=_is_integer(recipe, path, ends))


def _is_integer(recipe: Recipe, path: str, ends: Sequence[str]) -> bool:
    """Whether the setting takes integers only: a number between the ends is refused."""
    try:
        override(recipe, f"{path}={(float(ends[0]) + float(ends[1])) / 2 + 0.123}")
    except ValueError:
        return all(end.strip().lstrip("+-").isdigit() for end in ends)
    return False

"""Choices: what the user decides about a comparison before anything runs; the rest of the protocol follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tangential.experiments.comparison.contest import Contest, contest
from tangential.experiments.recipes import choose
from tangential.experiments.report.paired import FEWEST
from tangential.experiments.settings.bounds import check_at_least

SEEDS = 8
"""Fresh seeds of the retrained runs, unless others are asked for."""

TRIALS = 25
"""Trials of each optimizer where neither trials nor a budget are given: five levels of two settings."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices of one comparison.

    Args:
        recipe: Name of a recipe.
        settings: Overrides of it.
        ranges: The search space; empty for that of the recipe.
        only: Projected optimizers to compare; empty for all.
        against: Variants of them to compare with as well, `SETTING=VALUE` each.
        trials: Most trials of each optimizer before an extension; None for what fits the budget, or `TRIALS`.
        budget: Minutes that all stages together may take on this machine; None for no limit.
        seeds: Number of fresh seeds.
        tuning_seeds: Number of seeds that a trial's score is the mean over.
        held_out: Share of the training data that trials are scored on.
        margin: Difference that does not matter, in the unit the score is shown in; None for the recipe's.
        smoke: Whether to compare on the few generated samples of the recipe's smoke test.

    Raises:
        ValueError: A number out of range, or both trials and a budget.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    trials: int | None = None
    budget: float | None = None
    seeds: int = SEEDS
    tuning_seeds: int = 1
    held_out: float = 0.2
    margin: float | None = None
    smoke: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, trials=self.trials, tuning_seeds=self.tuning_seeds)
        check_at_least(2, seeds=self.seeds, note=f"and {FEWEST} for a verdict")
        if self.trials is not None and self.budget is not None:
            raise ValueError(f"trials={self.trials} and budget={self.budget}: a budget decides the trials; give one")
        for name in ("budget", "margin"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be more than 0")

    @staticmethod
    def of(record: Mapping[str, Any]) -> Choices:
        """Choices from their record in a protocol.

        Raises:
            ValueError: The record is of another version.
        """
        names = {field.name for field in fields(Choices)}
        if record.keys() != names:
            raise ValueError(f"its choices are {', '.join(record)}, and this version has {', '.join(sorted(names))}")
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in record.items()}
        return Choices(**given)

    def record(self) -> dict[str, Any]:
        """The choices as JSON's own types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def contest(self) -> Contest:
        """Who is compared with whom.

        Raises:
            ValueError: An unknown recipe, optimizer or setting.
        """
        return contest(choose(self.recipe, self.settings, smoke=self.smoke), only=self.only, against=self.against)

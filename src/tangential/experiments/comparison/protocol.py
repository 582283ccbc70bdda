"""Protocol of a comparison: what will be done, in a file that is written before any run and that nothing contradicts.

`protocol.json` has the metric and the target, the budget, the search space, the seeds of tuning and of the report (none
in both), the margin, the commit and versions, and the fingerprints of the data. A command that would do anything else
in the same folder is refused with the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tangential.experiments.comparison.choices import Choices
from tangential.experiments.comparison.contest import Contest
from tangential.experiments.comparison.cost import Cost
from tangential.experiments.comparison.grid import Axis, Grid
from tangential.experiments.runs.files import read_object, replace_json
from tangential.experiments.settings.record import differences

FILE = "protocol.json"

FIRST_FRESH_SEED = 100
"""Tuning has the seeds 0, 1, ...; those of the report begin here, so that no score was looked at before."""

TARGET = "the median over seeds of the tuned baseline's score after the last epoch"
RULES = (
    "Every optimizer of a family is tried at the same levels. A best value at the first or last level is named, and the"
    " range extended once by a level, for the whole family. Of equally good trials the one nearest to the middle of the"
    " grid is taken. The test data choose nothing; the score is that after the last epoch."
)
_SOURCE = ("git_commit", "tangential", "torch")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What will be done.

    Args:
        choices: What the user decided.
        grids: Search space of every optimizer, before an extension.
        margin: Difference that does not matter, in the unit the score is shown in.
        cost: Expected time, measured before the protocol was written.
        steps_per_epoch: Steps of an epoch on all training data.
        settings: Record of every optimizer's run with the recipe's own values.
        data: Number of samples and fingerprint of each split.
        environment: Versions, commit, machine and command at registration.
    """

    choices: Choices
    grids: Mapping[str, Grid]
    margin: float
    cost: Cost
    steps_per_epoch: int
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def tuning_seeds(self) -> range:
        """Seeds of every trial."""
        return range(self.choices.tuning_seeds)

    @property
    def fresh_seeds(self) -> range:
        """Seeds of the retrained runs."""
        return range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + self.choices.seeds)

    @property
    def noise_seeds(self) -> range:
        """Those of them from which the baselines are trained once more with other rounding: half, and two at least."""
        return self.fresh_seeds[: max(2, -(-self.choices.seeds // 2))]

    def record(self, contest: Contest) -> dict[str, Any]:
        """The protocol as JSON's own types."""
        headline = asdict(contest.recipe.task.headline)
        return {
            "version": 1,
            "choices": self.choices.record(),
            "metric": headline,
            "target": TARGET,
            "rules": RULES,
            "margin": self.margin,
            "pairs": [[pair.reference, pair.contender] for pair in contest.pairs],
            "budget": {
                "trials": max(map(len, self.grids.values())),
                "epochs": contest.recipe.epochs,
                "batch_size": contest.recipe.batch_size,
                "steps_per_epoch": self.steps_per_epoch,
            },
            "space": {name: [asdict(axis) | {"levels": list(axis.levels)} for axis in grid.axes]
                      for name, grid in self.grids.items()},
            "seeds": {
                "tuning": list(self.tuning_seeds),
                "report": list(self.fresh_seeds),
                "noise": list(self.noise_seeds),
            },
            "settings": dict(self.settings),
            "data": dict(self.data),
            "cost": asdict(self.cost),
            "environment": dict(self.environment),
        }  # fmt: skip

    @staticmethod
    def of(record: Mapping[str, Any]) -> Protocol:
        """Protocol from its record.

        Raises:
            KeyError, TypeError, ValueError: The record is not one.
        """
        return Protocol(
            choices=Choices.of(record["choices"]),
            grids={
                name: Grid(name, tuple(Axis(**{**axis, "levels": tuple(axis["levels"])}) for axis in axes))
                for name, axes in record["space"].items()
            },
            margin=float(record["margin"]),
            cost=Cost(**record["cost"]),
            steps_per_epoch=int(record["budget"]["steps_per_epoch"]),
            settings=record["settings"],
            data=record["data"],
            environment=record["environment"],
        )


def write(protocol: Protocol, contest: Contest, folder: Path) -> None:
    """Write the protocol into the folder of a comparison, which has none yet."""
    replace_json(folder / FILE, protocol.record(contest))


def read(folder: Path) -> Protocol | None:
    """The protocol of a folder; None if nothing is registered there.

    Raises:
        ValueError: The file is not a protocol.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Protocol.of(read_object(path))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no protocol of this version ({error}); choose another --out") from error


def check_choices(found: Protocol, asked: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError if what a command asks for differs from what is registered.

    Args:
        found: The protocol in the folder.
        asked: The choices that the command states; those it leaves open are the registered ones.
        folder: The folder.
    """
    registered = {name: getattr(found.choices, name) for name in asked}
    others = [f"{name}: {registered[name]!r} registered, {value!r} asked" for name, value in asked.items()
              if registered[name] != value]  # fmt: skip
    if others:
        raise ValueError(
            f"{folder / FILE} registers another comparison ({'; '.join(others[:3])}); choose another --out"
        )


def check_present(found: Protocol, present: Protocol, folder: Path) -> None:
    """Raise ValueError if the code or the data are no longer what was registered.

    Args:
        found: The protocol in the folder.
        present: What would be registered now.
        folder: The folder.
    """
    others = list(_changes(found, present))
    if others:
        raise ValueError(
            f"{folder / FILE} was registered for something else ({'; '.join(others[:3])}); bring that back, or choose"
            " another --out"
        )


def _changes(found: Protocol, present: Protocol) -> Iterator[str]:
    yield from differences(dict(found.settings), dict(present.settings))
    for split, known in found.data.items():
        if present.data.get(split) != known:
            yield f"the {split} data had {known}, now {present.data.get(split)}"
    for name in _SOURCE:
        if found.environment.get(name) != present.environment.get(name):
            yield f"{name} {found.environment.get(name)} there, {present.environment.get(name)} now"

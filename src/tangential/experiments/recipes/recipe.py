"""A recipe: a task, trained from the same seeds with each optimizer of a comparison.

A variant of a recipe is `replace(recipe, ...)`; a change for one run is an override, see `settings.overrides`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.settings.overrides import FIXED, FLAT
from tangential.experiments.settings.record import describe
from tangential.experiments.task import Task
from tangential.experiments.training.detected_blocks import with_blocks
from tangential.experiments.training.plan import Plan, TrainingOptions
from tangential.optimizers import SGDP, AdamP


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """A score that the paper gives for one optimizer of a recipe.

    Args:
        value: In the unit of the task's headline: in per cent, for example.
        source: Where it stands, e.g. `v1, table 1`.
        verified: Whether it was found in a public document; False if only remembered, and then shown as unverified.
        other_data: Whether the run's data are not the paper's, so that the numbers cannot be compared.
    """

    value: float
    source: str
    verified: bool
    other_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One comparison.

    Args:
        name: What it is called on the command line.
        about: One line: what is trained on what.
        task: What is learned.
        optimizers: The columns of the comparison, by name, in the order they are shown.
        baselines: For each projected optimizer the one it is compared with.
        schedule: Makes the learning rate schedule from an optimizer and the number of steps of a run.
        epochs: Passes over the training data.
        batch_size: Samples per step.
        seeds: Each optimizer is trained from the seeds 0, 1, ..., one less than this.
        paper: The paper's numbers for these optimizers, by name, where it has them.
        paper_data: The data that these numbers are of; those of the task with which the recipe is first made if not
            given. Wherever the files lie, a number is marked beside a run on other data.
        tuned: Settings that a comparison tunes for every optimizer, with the factor by which their range reaches below
            and above the recipe's value.
        margin: Difference of the score, in the unit it is shown in, that does not matter; None for half a point of a
            score in per cent.
        options: Micro-batches, clipping, averaging, precision, compilation and telemetry. In overrides and in
            `settings.json` they stand beside the others: `clip_norm=1`.

    Raises:
        ValueError: A number out of range, or a baseline that is not among the optimizers.
    """

    name: str = field(metadata=FIXED)
    about: str = field(metadata=FIXED)
    task: Task
    optimizers: Mapping[str, partial[Optimizer]]
    baselines: Mapping[str, str] = field(metadata=FIXED)
    schedule: partial[LRScheduler]
    epochs: int
    batch_size: int
    seeds: int = 5
    paper: Mapping[str, PaperNumber] = field(default_factory=dict, metadata=FIXED)
    paper_data: Any = field(default=None, metadata=FIXED)
    tuned: Mapping[str, float] = field(default_factory=lambda: {"lr": 10.0, "weight_decay": 10.0}, metadata=FIXED)
    margin: float | None = field(default=None, metadata=FIXED)
    options: TrainingOptions = field(default_factory=TrainingOptions, metadata=FLAT)

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size, seeds=self.seeds)
        if self.paper and self.paper_data is None:
            object.__setattr__(self, "paper_data", getattr(self.task, "data", None))
        for name in (*self.baselines.keys(), *self.baselines.values()):
            if name not in self.optimizers:
                raise ValueError(f"baselines: {name} is not among the optimizers {', '.join(self.optimizers)}")

    def plan(self, optimizer: str, seed: int) -> Plan:
        """Plan of the run of one optimizer from one seed."""
        return Plan(
            task=self.task,
            optimizer=self.optimizers[optimizer],
            schedule=self.schedule,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            options=self.options,
        )

    def settings(self, optimizer: str, seed: int) -> dict[str, Any]:
        """Record of that run as JSON: two runs with equal settings are the same run."""
        plan = self.plan(optimizer, seed)
        return {
            "recipe": self.name,
            "optimizer": optimizer,
            "compared": {name: self.baselines.get(name) for name in self.optimizers},
            "headline": asdict(self.task.headline),
            "paper": self._paper(),
            **{name: describe(getattr(plan, name)) for name in ("seed", "epochs", "batch_size", "task", "schedule")},
            **asdict(plan.options),
            "made_by": describe(plan.optimizer),
        }

    def _paper(self) -> dict[str, Any]:
        """The paper's numbers as JSON, marked if the task's data are not those of the numbers."""
        other = _content(getattr(self.task, "data", None)) != _content(self.paper_data)
        return {
            name: asdict(replace(number, other_data=number.other_data or other)) for name, number in self.paper.items()
        }

    def check(self) -> None:
        """Check of the settings: everything a run needs is made once, before anything is trained.

        Raises:
            ValueError: The error of the task, the network, an optimizer or the schedule, with the optimizer's name.
        """
        self.task.batches("train", batch_size=self.batch_size)
        model = self.task.model()
        for name, make in self.optimizers.items():
            try:
                # New groups for each optimizer, which writes its own defaults into them.
                made = [with_blocks(make, None)(objective.parameters) for objective in self.task.objectives(model)]
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(f"optimizers.{name}: {error}") from error
            for optimizer in made:
                self.schedule(optimizer, 1)

    def smoke(self) -> Recipe:
        """Smoke test: the same comparison in two steps on 16 samples."""
        return replace(self, task=self.task.smoke(), epochs=1, batch_size=8, seeds=1)


def _content(data: Any) -> Any:
    """Record of a data set without the place of its files."""
    record = describe(data) if not isinstance(data, dict) else data
    if not isinstance(record, dict):
        return record
    return {key: _content(value) for key, value in record.items() if key not in ("root", "download")}


def sgd_pair(**settings: Any) -> dict[str, partial[Optimizer]]:
    """SGD and SGDP with the same settings, as the paper compares them.

    Examples:
        >>> {name: make.keywords for name, make in sgd_pair(lr=0.1).items()}
        {'sgd': {'lr': 0.1}, 'sgdp': {'lr': 0.1}}
    """
    return {"sgd": partial(SGD, **settings), "sgdp": partial(SGDP, **settings)}


def adam_pair(**settings: Any) -> dict[str, partial[Optimizer]]:
    """AdamW and AdamP with the same settings, as the paper compares them.

    Examples:
        >>> {name: make.keywords for name, make in adam_pair(lr=1e-3).items()}
        {'adamw': {'lr': 0.001}, 'adamp': {'lr': 0.001}}
    """
    return {"adamw": partial(AdamW, **settings), "adamp": partial(AdamP, **settings)}


def paper_numbers(source: str, **values: float) -> dict[str, PaperNumber]:
    """Numbers of one table of the paper that was read in a public document.

    Args:
        source: Where they stand: `v1, table 1`.
        values: The number of each optimizer, as the headline shows it.

    Examples:
        >>> paper_numbers("v1, table 1", sgd=70.28)["sgd"].value
        70.28
    """
    return {name: PaperNumber(value=value, source=source, verified=True) for name, value in values.items()}


PROJECTED = {"sgdp": "sgd", "adamp": "adamw"}

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

from tangential.experiments.settings.overrides import FIXED
from tangential.experiments.settings.record import describe
from tangential.experiments.task import Task
from tangential.experiments.training.devices import PRECISIONS
from tangential.experiments.training.loop import Plan
from tangential.optimizers import SGDP, AdamP

_WAYS = ("accumulate", "clip_norm", "clip_value", "ema", "precision", "compile", "watch_every")


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """A score that the paper gives for one optimizer of a recipe.

    Args:
        value: As the task's headline shows it: in per cent, say.
        source: Where it stands, e.g. `v1, table 1`.
        verified: Whether it was found in a public document; False if only remembered, and then shown as unverified.
        other_data: Whether the recipe's data are not the paper's, so that the numbers cannot be compared.
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
        accumulate: How many parts a process takes a batch in; see `training.loop.Plan`, here and below.
        clip_norm: Greatest norm of all gradients together; none for no limit.
        clip_value: Greatest absolute value of a gradient's element; none for no limit.
        ema: Score a moving average of the weights with this decay per step; none for the weights themselves.
        precision: 32, 64, bf16-mixed or 16-mixed.
        compile: Whether to compile the model.
        watch_every: Record the weights each so many steps; none for 100 to 200 records in all, 0 for no records.

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
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    precision: str = "32"
    compile: bool = False
    watch_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "seeds", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        self._check_ways()
        for name in (*self.baselines.keys(), *self.baselines.values()):
            if name not in self.optimizers:
                raise ValueError(f"baselines: {name} is not among the optimizers {', '.join(self.optimizers)}")

    def _check_ways(self) -> None:
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}: must be more than 0, or none for no limit")
        if self.watch_every is not None and self.watch_every < 0:
            raise ValueError(f"watch_every={self.watch_every}: must be at least 1, 0 for no records, or none")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema}: must be between 0 and 1, or none to score the weights themselves")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision}: choose from {', '.join(PRECISIONS)}")

    def plan(self, optimizer: str, seed: int) -> Plan:
        """Give the run of one optimizer from one seed."""
        return Plan(
            task=self.task,
            optimizer=self.optimizers[optimizer],
            schedule=self.schedule,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            **{name: getattr(self, name) for name in _WAYS},
        )

    def settings(self, optimizer: str, seed: int) -> dict[str, Any]:
        """Describe that run as JSON: two runs with equal settings are the same run."""
        plan = self.plan(optimizer, seed)
        return {
            "recipe": self.name,
            "optimizer": optimizer,
            "compared": {name: self.baselines.get(name) for name in self.optimizers},
            "headline": asdict(self.task.headline),
            "paper": {name: asdict(number) for name, number in self.paper.items()},
            **{name: describe(getattr(plan, name)) for name in ("seed", "epochs", "batch_size", "task", "schedule")},
            **{name: getattr(plan, name) for name in _WAYS},
            "made_by": describe(plan.optimizer),
        }

    def check(self) -> None:
        """Make everything a run needs once, so that a bad setting shows before anything is trained.

        Raises:
            ValueError: What the task, the network, an optimizer or the schedule says, with the optimizer's name.
        """
        self.task.batches("train", batch_size=self.batch_size)
        objectives = self.task.objectives(self.task.model())
        for name, make in self.optimizers.items():
            try:
                made = [make(objective.parameters) for objective in objectives]
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(f"optimizers.{name}: {error}") from error
            for optimizer in made:
                self.schedule(optimizer, 1)

    def smoke(self) -> Recipe:
        """Make the same comparison in two steps on 16 samples: the same code, in seconds."""
        return replace(self, task=self.task.smoke(), epochs=1, batch_size=8, seeds=1)


def sgd_pair(**settings: Any) -> dict[str, partial[Optimizer]]:
    """Give SGD and SGDP with the same settings, as the paper compares them.

    Example:
        >>> {name: make.keywords for name, make in sgd_pair(lr=0.1).items()}
        {'sgd': {'lr': 0.1}, 'sgdp': {'lr': 0.1}}
    """
    return {"sgd": partial(SGD, **settings), "sgdp": partial(SGDP, **settings)}


def adam_pair(**settings: Any) -> dict[str, partial[Optimizer]]:
    """Give AdamW and AdamP with the same settings, as the paper compares them.

    Example:
        >>> {name: make.keywords for name, make in adam_pair(lr=1e-3).items()}
        {'adamw': {'lr': 0.001}, 'adamp': {'lr': 0.001}}
    """
    return {"adamw": partial(AdamW, **settings), "adamp": partial(AdamP, **settings)}


PROJECTED = {"sgdp": "sgd", "adamp": "adamw"}

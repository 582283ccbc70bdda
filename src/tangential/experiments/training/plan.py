"""The plan of a run: everything that decides its result, and the options that all runs of a comparison share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Task
from tangential.experiments.training.devices import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of training, the same for every optimizer of a comparison.

    On the command line and in `settings.json` they stand among the recipe's own settings: `clip_norm=1`.

    Args:
        accumulate: How many micro-batches a process takes a batch in, one after the other, to need less memory.
            BatchNorm then takes the statistics of each.
        clip_norm: Greatest norm of all gradients together; none for no limit.
        clip_value: Greatest absolute value of a gradient's element, applied before `clip_norm`; none for no limit.
        ema: Score an exponential moving average of the weights with this decay per step, e.g. 0.9999; none for the
            weights themselves.
        precision: "32", "64", "bf16-mixed" or "16-mixed".
        compile: Whether to compile the model with `torch.compile`.
        watch_every: Record telemetry every N steps; none for 100 to 200 records in all, 0 for no records.

    Raises:
        ValueError: A number out of range, or an unknown precision.

    Examples:
        >>> TrainingOptions(clip_norm=0)
        Traceback (most recent call last):
        ...
        ValueError: clip_norm=0: must be more than 0, or none for no limit
    """

    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    precision: str = "32"
    compile: bool = False
    watch_every: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, accumulate=self.accumulate)
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be more than 0, or none for no limit")
        if self.watch_every is not None and not self.watch_every >= 0:
            raise ValueError(f"watch_every={self.watch_every}: must be at least 1, 0 for no records, or none")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema}: must be between 0 and 1, or none to score the weights themselves")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision}: choose from {', '.join(PRECISIONS)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run: everything that decides its result.

    Args:
        task: What is learned.
        optimizer: Makes an optimizer from an objective's parameters, e.g. `partial(SGD, lr=0.1)`.
        schedule: Makes the learning rate schedule from the optimizer and the number of steps of the whole run.
        epochs: Passes over the training data.
        batch_size: Samples per step, over all processes.
        seed: Decides the initial weights and the order of the data, whatever the optimizer.
        options: Micro-batches, clipping, averaging, precision, compilation, telemetry.
    """

    task: Task
    optimizer: Callable[[Iterable[Any]], Optimizer]
    schedule: Callable[[Optimizer, int], LRScheduler]
    epochs: int
    batch_size: int
    seed: int
    options: TrainingOptions = field(default_factory=TrainingOptions)

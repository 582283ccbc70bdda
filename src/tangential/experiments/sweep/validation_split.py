"""Validation split: a task that is scored on held-out training data, so that settings are not chosen on test data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from tangential.experiments.task import Headline, Objective, Record, Split, Task


@dataclass(frozen=True)
class ValidationSplit:
    """A task that is trained on a part of its training data and scored on the rest; the test data are not used.

    The split is the same for every seed. The held-out samples have the transforms of training, augmentation included.

    Args:
        task: The task.
        share: Fraction that is held out, between 0 and 1.

    Raises:
        ValueError: A share out of range.
    """

    task: Task
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share}: must be between 0 and 1")

    @property
    def headline(self) -> Headline:
        """Headline of the task."""
        return self.task.headline

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Dataloader of the samples that are kept ("train") or held out ("test").

        Raises:
            ValueError: The task's dataloader does not draw single samples, or all of them would be held out.
        """
        whole = self.task.batches("train", batch_size=batch_size, generator=torch.Generator())
        self._check(whole)
        samples = len(whole.dataset)  # type: ignore[arg-type]
        numbers = torch.randperm(samples, generator=torch.Generator().manual_seed(0)).tolist()
        held = max(1, round(self.share * samples))
        if held >= samples:
            raise ValueError(
                f"share={self.share}: holds out all of the {samples} training samples; give fewer, or more data"
            )
        part = sorted(numbers[:held] if split == "test" else numbers[held:])
        return DataLoader(
            Subset(whole.dataset, part),
            batch_size=batch_size,
            shuffle=generator is not None,
            generator=generator,
            drop_last=whole.drop_last and split == "train",
            collate_fn=whole.collate_fn,
            num_workers=whole.num_workers,
            pin_memory=whole.pin_memory,
            worker_init_fn=whole.worker_init_fn,
        )

    def model(self) -> nn.Module:
        """A new model of the task."""
        return self.task.model()

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Objectives of the task."""
        return self.task.objectives(model)

    def score(self, model: nn.Module, batches: Iterable[Any]) -> Record:
        """Metrics of the task."""
        return self.task.score(model, batches)

    def smoke(self) -> ValidationSplit:
        """The same split of the task's smoke test."""
        return ValidationSplit(self.task.smoke(), self.share)

    def _check(self, loader: DataLoader[Any]) -> None:
        plain = isinstance(loader.sampler, RandomSampler | SequentialSampler) and loader.batch_size is not None
        if isinstance(loader.dataset, IterableDataset) or not plain:
            raise ValueError(
                f"{type(self.task).__name__}: its training data are not drawn sample by sample, so none can be held"
                " out; use --on test, and state it with the result"
            )

"""Sampler of class-balanced batches: a few classes, as many images of each, for losses that compare images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class ClassBalanced(Sampler[list[int]]):
    """Batches of `batch_size / per_class` classes, drawn without replacement, with `per_class` images of each.

    The images of a class are drawn without replacement too; a class with fewer gives some of them again. An epoch has
    as many batches as there are whole batches of images, so it need not show every image.

    Args:
        classes: The class of each image, `(count,)`.
        batch_size: Images per batch.
        per_class: Images of each class in a batch.
        generator: Draws; the same state gives the same batches.

    Raises:
        ValueError: Batches that cannot be made so, or too few images or classes for one.

    Examples:
        >>> batches = ClassBalanced(torch.tensor([5, 5, 7, 7, 7, 9]), 4, 2, torch.Generator().manual_seed(0))
        >>> len(batches), [len(batch) for batch in batches]
        (1, [4])
    """

    def __init__(self, classes: Tensor, batch_size: int, per_class: int, generator: torch.Generator) -> None:
        if per_class < 1 or batch_size % per_class:
            raise ValueError(f"batch_size={batch_size}: must be a multiple of per_class={per_class}")
        self._generator = generator
        self._per_class = per_class
        self._at_once = batch_size // per_class
        by_class = classes.argsort(stable=True)
        _, counts = classes[by_class].unique_consecutive(return_counts=True)
        self._members = by_class.split(counts.tolist())
        if len(self._members) < self._at_once:
            raise ValueError(
                f"batch_size={batch_size} with per_class={per_class} takes {self._at_once} classes, "
                f"and there are only {len(self._members)}"
            )
        self._batches = len(classes) // batch_size
        if not self._batches:
            raise ValueError(f"batch_size={batch_size}: there are only {len(classes)} training images")

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self._batches):
            chosen = torch.randperm(len(self._members), generator=self._generator)[: self._at_once].tolist()
            yield [number for each in chosen for number in self._drawn(self._members[each])]

    def _drawn(self, members: Tensor) -> list[int]:
        numbers: list[int] = []
        while len(numbers) < self._per_class:
            numbers += members[torch.randperm(len(members), generator=self._generator)].tolist()
        return numbers[: self._per_class]

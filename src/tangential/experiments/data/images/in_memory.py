"""Images in memory: the dataset, its augmentation (crop and flip) by torch's generator, and the dataloader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset, Sampler

from tangential.experiments.data.fingerprint import tensor_fingerprint
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

Batch = tuple[Tensor, ...]
"""Images `(batch, channels, height, width)` from 0 to 1, their classes `(batch,)`, and marks of the data set if any."""

D = TypeVar("D", bound="ImageData")


class ImageData(Protocol):
    """Interface of a data set of images. Implementations are frozen dataclasses."""

    @property
    def channels(self) -> int:
        """Channels of an image."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, which the model takes away from its images; empty for none."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, which the model divides its images by; empty for none."""
        ...

    def load(self, split: Any) -> Dataset[Batch]:
        """Open one split; the data set fetches whole batches (`__getitems__`).

        Raises:
            ValueError: The data are not there; the error is one line with where to get them and where to put them.
        """
        ...

    def smoke(self) -> ImageData:
        """A few images of the same kind that need no files."""
        ...


class Images(Dataset[Batch]):
    """Images and their classes in memory, fetched a whole batch at a time.

    Args:
        images: `(count, channels, height, width)`: floats from 0 to 1, or bytes, which are divided by 255 when fetched.
        classes: `(count,)`, integers.
        marks: Further values of each image, `(count, ...)` each; fetched with it.
        augment: Changes the images of a batch as they are fetched, before the division.

    Examples:
        >>> images = Images(torch.full((2, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([3, 4]))
        >>> images[1]
        (tensor([[[1.]]]), tensor(4))
    """

    def __init__(
        self, images: Tensor, classes: Tensor, *marks: Tensor, augment: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.images = images
        self.classes = classes
        self.marks = marks
        self.augment = augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return tuple(each[0] for each in self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch in one go, where a dataloader would else fetch image by image."""
        images = self.images[indices]
        if self.augment is not None:
            images = self.augment(images)
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return images, self.classes[indices], *(mark[indices] for mark in self.marks)

    def fingerprint(self) -> str:
        """Hash of the images, their classes and marks; see `tangential.experiments.data.fingerprint`."""
        return tensor_fingerprint(self.images, self.classes, *self.marks)


@dataclass(frozen=True)
class CropAndFlip:
    """Shift each image of a batch at random within a black border, and mirror half of them.

    Args:
        padding: Width of the border, in pixels.
        flip: Whether to mirror left and right.
    """

    padding: int
    flip: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images `(batch, channels, height, width)`, drawing from torch's global generator."""
        count, channels, height, width = images.shape
        top, left = torch.randint(0, 2 * self.padding + 1, (2, count, 1))
        rows = top + torch.arange(height)
        columns = left + torch.arange(width)
        if self.flip:
            columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
        batch = torch.arange(count)[:, None, None, None]
        channel = torch.arange(channels)[:, None, None]
        bordered = pad(images, [self.padding] * 4)
        return bordered[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


@dataclass(frozen=True, kw_only=True)
class InMemory(ABC):
    """Small images of one size that are held in memory.

    Args:
        limit: Train on only so many images, the first of each class, as even over the classes as can be; None for all.
        test_limit: The same for the test images.
        padding: In training, shift each image by up to so many pixels each way.
        flip: In training, mirror half of the images.

    Raises:
        ValueError: A limit below one, or a negative padding.
    """

    limit: int | None = None
    test_limit: int | None = None
    padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, limit=self.limit, test_limit=self.test_limit, note="or none for all images")
        check_at_least(0, padding=self.padding)

    @abstractmethod
    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Read one split as a whole: bytes `(count, channels, height, width)` and classes `(count,)`."""

    def load(self, split: Split) -> Images:
        """Read what the limits leave of one split."""
        images, classes = self.read(split)
        limit = self.limit if split == "train" else self.test_limit
        if limit is not None:
            chosen = even(classes, limit)
            images, classes = images[chosen], classes[chosen]
        augmented = split == "train" and (self.padding or self.flip)
        return Images(images, classes, augment=CropAndFlip(self.padding, self.flip) if augmented else None)


def even(classes: Tensor, limit: int) -> Tensor:
    """Choose `limit` images, the first of each class, as many of each as of the others as far as they go.

    Returns:
        Their indices, in order.

    Examples:
        >>> even(torch.tensor([7, 7, 7, 7, 8, 9]), 4).tolist()
        [0, 1, 4, 5]
    """
    order = classes.argsort(stable=True)
    _, counts = classes[order].unique_consecutive(return_counts=True)
    rank = torch.cat([torch.arange(int(count)) for count in counts])  # the how-many-th of its class each one is
    return order[rank.argsort(stable=True)[:limit]].sort().values


def loader(
    images: Dataset[Batch],
    *,
    batch_size: int,
    generator: torch.Generator | None = None,
    workers: int = 0,
    drop_last: bool = False,
    batches: Sampler[list[int]] | None = None,
) -> DataLoader[Batch]:
    """Dataloader of one pass over a data set that fetches whole batches.

    Args:
        images: The data set.
        batch_size: Images per batch.
        generator: Shuffles the images, and seeds the workers; None for the order they lie in.
        workers: Processes that load, for images on disk; 0 loads in this one.
        drop_last: Whether to leave out a last batch that is smaller.
        batches: Draws whole batches instead of shuffling; `generator` still seeds the workers.

    Raises:
        ValueError: A negative number of workers.
    """
    check_at_least(0, workers=workers)
    # The data set hands over whole batches already, so there is nothing to collate.
    make = partial(DataLoader, images, generator=generator, num_workers=workers, collate_fn=_as_it_is)
    if batches is not None:
        return make(batch_sampler=batches)
    return make(batch_size=batch_size, shuffle=generator is not None, drop_last=drop_last)


def _as_it_is(batch: Any) -> Any:  # a function of a module, so that spawned workers can be sent it
    return batch

"""Synthetic images: bright squares and discs on a dark ground, with their boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from tangential.experiments.data.boxes.annotated import Sample, Thing, transformed
from tangential.experiments.data.fingerprint import file_fingerprint
from tangential.experiments.task import Split


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Squares and discs that do not touch, up to four in a image, always the same ones; some images are empty.

    Args:
        count: Images of each split.
        size: Their side, in pixels; at least 32.

    Raises:
        ValueError: A count below one, or a size below 32.

    Examples:
        >>> image, target = Shapes(count=4, size=64).load("train", lambda image, target: (image, target))[0]
        >>> image.shape, target["boxes"].shape[1], sorted(set(target["labels"].tolist()) - {1, 2})
        (torch.Size([3, 64, 64]), 4, [])
    """

    count: int = 16
    size: int = 64

    categories = ("square", "disc")

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 32:
            raise ValueError(f"count={self.count}, size={self.size}: at least 1 image of at least 32 pixels")

    def load(self, split: Split, view: Callable[[Any, Any], Any]) -> Drawn:
        """Draw the images of a split."""
        return Drawn(self, split, view)


class Drawn(Dataset[Sample]):
    """The images of a split, drawn when they are fetched.

    Args:
        shapes: What to draw.
        split: Its name.
        view: Transforms an image and its boxes into what a network gets.
    """

    def __init__(self, shapes: Shapes, split: Split, view: Callable[[Any, Any], Any]) -> None:
        self._shapes, self._training, self._view = shapes, split == "train", view

    def __len__(self) -> int:
        return self._shapes.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)  # this is how a plain `for` knows the end
        image, things = _drawn(2 * index + self._training, self._shapes.size)
        return transformed(image, things, self._view, training=self._training)

    def fingerprint(self) -> str:
        """Hash of the settings that decide the images; see `tangential.experiments.data.fingerprint`."""
        return file_fingerprint([], self._shapes, self._training)


def _drawn(number: int, size: int) -> tuple[tv_tensors.Image, list[Thing]]:
    draw = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 60, (3, size, size), generator=draw, dtype=torch.uint8)
    things = []
    for quarter in range(4):
        label, colour = int(torch.randint(0, 3, (), generator=draw)), torch.randint(120, 255, (3, 1), generator=draw)
        side = int(torch.randint(size // 5, size // 2 - 1, (), generator=draw))
        left, top = (int(torch.randint(0, size // 2 - side, (), generator=draw)) for _ in range(2))
        left, top = left + quarter % 2 * (size // 2), top + quarter // 2 * (size // 2)
        if label == 0:
            continue
        things.append(Thing(label, (left, top, left + side, top + side)))
        pixels[:, top : top + side, left : left + side][:, _mask(side, label)] = colour.to(torch.uint8)
    return tv_tensors.Image(pixels), things


def _mask(side: int, label: int) -> Tensor:
    """Which pixels of a box `(side, side)` a square or a disc covers."""
    away = torch.arange(side) - (side - 1) / 2
    far = away.square()[:, None] + away.square()
    return torch.ones_like(far, dtype=torch.bool) if label == 1 else far <= (side / 2) ** 2

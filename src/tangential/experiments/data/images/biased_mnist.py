"""Biased-MNIST (Bahng et al., 2020): digits on coloured ground, the colour being that of the class almost always."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from tangential.experiments.data.images.in_memory import Images
from tangential.experiments.data.images.mnist_cifar import Mnist
from tangential.experiments.data.images.synthetic import SegmentDigits
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

COLOURS = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (225, 225, 0), (225, 0, 225)),
    *((0, 255, 255), (255, 128, 0), (255, 0, 128), (128, 0, 255), (128, 128, 128)),
)
"""Of the classes 0 to 9."""

TESTS: Mapping[str, float] = {"biased": 1.0, "unbiased": 0.1, "rho0": 0.0}
"""The three test sets, and the share of images in their class's own colour."""


@dataclass(frozen=True, kw_only=True)
class BiasedMnist:
    """Digits, white on a ground whose colour is that of their class for a share `rho` of the training images.

    All digits are tested three times: each in its class's colour (`biased`), a tenth of each class (`unbiased`: the
    colour is independent of the class), and none (`rho0`). Test batches have a third tensor: the test set that each
    image is of.

    Args:
        source: Where the digits come from; `SegmentDigits` are generated.
        rho: Share of the training images in their class's colour, from 0 to 1.
        seed: Decides which images get which colour. It is no run's seed: all runs see the same images.
        shrink: Make the digits so many times smaller before they are coloured, the brightest of the pixels standing for
            all; 1 as published, 2 for a quarter of the work.

    Raises:
        ValueError: A share outside 0 to 1, or a `shrink` below 1.
    """

    source: Mnist | SegmentDigits = field(default_factory=Mnist)
    rho: float = 0.997
    seed: int = 0
    shrink: int = 1

    channels = 3
    classes = 10
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho={self.rho}: must be from 0 to 1")
        check_at_least(1, shrink=self.shrink)

    def load(self, split: Split) -> Images:
        """Colour the digits of one split; the same way at every call."""
        digits = self.source.load(split)
        shapes = max_pool2d(digits.images.float(), self.shrink)
        draw = torch.Generator().manual_seed(2 * self.seed + (split == "test"))
        if split == "train":
            return Images(coloured(shapes, colours(digits.classes, self.rho, draw)), digits.classes)
        versions = [coloured(shapes, colours(digits.classes, rho, draw)) for rho in TESTS.values()]
        tests = torch.arange(len(TESTS)).repeat_interleave(len(digits))
        return Images(torch.cat(versions), digits.classes.repeat(len(TESTS)), tests)

    def scores(self, right: Tensor, classes: Tensor, tests: Tensor) -> dict[str, float]:
        """Measure each test set.

        Args:
            right: Whether each image was read right, `(count,)`.
            classes: What they show.
            tests: Which test set each is of.

        Returns:
            `biased_accuracy`, `unbiased_accuracy` and `rho0_accuracy`, from 0 to 1.
        """
        return {f"{name}_accuracy": float(right[tests == i].double().mean()) for i, name in enumerate(TESTS)}

    def smoke(self) -> BiasedMnist:
        """16 synthetic digits."""
        return BiasedMnist(source=SegmentDigits(), rho=self.rho, seed=self.seed, shrink=self.shrink)


def colours(classes: Tensor, rho: float, draw: torch.Generator) -> Tensor:
    """Choose a colour for each digit, class by class.

    Of the n digits of a class, in random order, the first int(n * rho) get the class's colour; the rest is cut into
    parts of equal size, the last one smaller, that get one of the nine others each, in random order.

    Args:
        classes: Of the digits, `(count,)`.
        rho: Share in their class's colour.
        draw: Decides both orders.

    Returns:
        Indices into `COLOURS`, `(count,)`.
    """
    chosen = classes.clone()
    for own in classes.unique().tolist():
        members = (classes == own).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=draw)]
        rest = members[int(len(members) * rho) :]
        others = torch.tensor([colour for colour in range(len(COLOURS)) if colour != own])
        others = others[torch.randperm(len(others), generator=draw)]
        part = math.ceil(len(rest) / len(others))
        chosen[rest] = others.repeat_interleave(part)[: len(rest)]
    return chosen


def coloured(images: Tensor, chosen: Tensor) -> Tensor:
    """Put digits on coloured ground.

    Args:
        images: Grey values `(count, 1, height, width)`, 0 where there is no digit.
        chosen: Indices into `COLOURS`, `(count,)`.

    Returns:
        Bytes `(count, 3, height, width)`: white where the digit is, however grey it was, and the colour elsewhere.
    """
    ground = torch.tensor(COLOURS, dtype=torch.uint8)[chosen][:, :, None, None]
    return torch.where(images > 0, torch.tensor(255, dtype=torch.uint8), ground)

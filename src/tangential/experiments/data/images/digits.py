"""Scikit-learn's digits: 1,797 real handwritten digits of 8 x 8 pixels that ship with the package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

from tangential.experiments.data.images.in_memory import Images
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split


@dataclass(frozen=True)
class Digits:
    """The digits, cut into 1,200 training and 597 test images, the same share of each digit in both.

    The cut is always the same one, so runs from different seeds differ in their weights and order, not in their data.

    Args:
        limit: Use only this many images of each split, for a quick try; None for all.

    Raises:
        ValueError: A limit below one.

    Examples:
        >>> Digits().load("train").images.shape, len(Digits(limit=16).load("test"))
        (torch.Size([1200, 1, 8, 8]), 16)
    """

    limit: int | None = None

    channels = 1
    classes = 10
    mean = ()
    std = ()

    def __post_init__(self) -> None:
        check_at_least(1, limit=self.limit, note="or none for all images")

    def load(self, split: Split) -> Images:
        """One split: grey values from 0 to 1, digits from 0 to 9."""
        images, classes = _splits()[split]
        return Images(images[: self.limit], classes[: self.limit])

    def smoke(self) -> Digits:
        """16 of them."""
        return replace(self, limit=16)


@cache
def _splits() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Both splits: images `(count, 1, 8, 8)` and classes `(count,)`."""
    from sklearn.datasets import load_digits  # a second that commands without digits should not wait
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(pixels, digits, test_size=597, stratify=digits, random_state=0)
    return {"train": _tensors(train_x, train_y), "test": _tensors(test_x, test_y)}


def _tensors(pixels, digits) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return images, torch.as_tensor(digits, dtype=torch.int64)

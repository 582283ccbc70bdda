"""Images drawn from a fixed seed, that need no data: gratings in colour, and digits of seven segments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tangential.experiments.data.images.in_memory import InMemory
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

_SEEDS = {"train": 1, "test": 2}

#  _0_
# 1   2
#  _3_
# 4   5
#  _6_
_SEGMENTS = ("012456", "25", "02346", "02356", "1235", "01356", "013456", "025", "0123456", "012356")
_PLACES = {  # segment -> rows, columns within a digit of 15 x 9 pixels
    "0": (slice(0, 2), slice(0, 9)),
    "1": (slice(0, 8), slice(0, 2)),
    "2": (slice(0, 8), slice(7, 9)),
    "3": (slice(7, 9), slice(0, 9)),
    "4": (slice(7, 15), slice(0, 2)),
    "5": (slice(7, 15), slice(7, 9)),
    "6": (slice(13, 15), slice(0, 9)),
}


@dataclass(frozen=True, kw_only=True)
class Gratings(InMemory):
    """Waves with noise: a class is a direction and a wavelength, so only a net that sees more than a pixel learns it.

    Args:
        channels: Channels of an image.
        classes: How many classes there are.
        side: Height and width, in pixels.
        count: Images of each split.
        mean: What the model takes away from each channel; empty for nothing.
        std: What the model divides each channel by.
        limit: See `InMemory`, as for the rest.

    Examples:
        >>> Gratings(count=4, side=8).load("train").images.shape
        torch.Size([4, 3, 8, 8])
    """

    channels: int = 3
    classes: int = 10
    side: int = 32
    count: int = 16
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, channels=self.channels, classes=self.classes, side=self.side, count=self.count)

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Draw one split; the same one at every call."""
        draw = torch.Generator().manual_seed(_SEEDS[split])
        classes = torch.arange(self.count) % self.classes
        angle = (math.pi * classes / self.classes)[:, None, None, None]
        length = (3.0 + classes % 3)[:, None, None, None]
        down, across = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing="ij")
        phase = 2 * math.pi * torch.rand(self.count, self.channels, 1, 1, generator=draw)
        wave = torch.sin(2 * math.pi * (angle.cos() * across + angle.sin() * down) / length + phase)
        noise = torch.randn(self.count, self.channels, self.side, self.side, generator=draw)
        return (127.5 + 70 * wave + 25 * noise).clamp(0, 255).byte(), classes

    def smoke(self) -> Gratings:
        """The same: it needs no files."""
        return self


@dataclass(frozen=True, kw_only=True)
class SegmentDigits(InMemory):
    """Digits of seven segments, 28 x 28 grey pixels on black, each shifted at random by a few pixels.

    Args:
        count: Images of each split.
        limit: See `InMemory`, as for the rest.

    Examples:
        >>> SegmentDigits(count=20).load("test").classes[:12].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    """

    count: int = 16

    channels = 1
    classes = 10
    mean = (0.5,)
    std = (0.5,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, count=self.count)

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Draw one split; the same one at every call."""
        draw = torch.Generator().manual_seed(_SEEDS[split])
        classes = torch.arange(self.count) % 10
        images = torch.zeros(self.count, 1, 28, 28, dtype=torch.uint8)
        for image, digit, (top, left) in zip(
            images, classes.tolist(), torch.randint(0, 10, (self.count, 2), generator=draw).tolist(), strict=True
        ):
            image[0, top + 2 : top + 17, left + 5 : left + 14] = _glyphs()[digit]
        return images, classes

    def smoke(self) -> SegmentDigits:
        """The same: it needs no files."""
        return self


@cache
def _glyphs() -> Tensor:
    """The ten digits, `(10, 15, 9)`."""
    glyphs = torch.zeros(10, 15, 9, dtype=torch.uint8)
    for glyph, segments in zip(glyphs, _SEGMENTS, strict=True):
        for segment in segments:
            glyph[_PLACES[segment]] = 200
    return glyphs

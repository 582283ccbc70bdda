"""Tones drawn from a fixed seed, that need no data."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tangential.experiments.data.sounds.clips import Clips
from tangential.experiments.data.sounds.decoding import Sounds
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

_SEEDS = {"train": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class Tones:
    """Tones with six harmonics and noise, of 0.5 to 1.5 seconds: a category is a pitch.

    Args:
        categories: What the pitches are called; they lie a fifth apart, from 110 Hz.
        count: Clips of each split.
        sample_rate: Samples per second.
        several: Whether a clip has one or two tones, its target saying which, or one, its target being the class.

    Examples:
        >>> waves, classes = Tones().load("train", samples=8000, chunks=1).__getitems__([0, 1])
        >>> waves.shape, classes
        (torch.Size([2, 8000]), tensor([0, 1]))
    """

    categories: tuple[str, ...] = ("A", "E", "B", "F sharp")
    count: int = 16
    sample_rate: int = 16000
    several: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, count=self.count, sample_rate=self.sample_rate)

    def load(self, split: Split, *, samples: int, chunks: int) -> Clips:
        """Draw one split; the same one at every call."""
        draw = torch.Generator().manual_seed(_SEEDS[split])
        number, clip = len(self.categories), torch.arange(self.count)
        present = torch.zeros(self.count, number)
        present[clip, clip % number] = 1
        if self.several:
            present[clip, clip // number % number] = 1
        seconds = 0.5 + torch.rand(self.count, generator=draw)
        lengths = (seconds * self.sample_rate).long()
        sounds = [self._tone(each, int(length), draw) for each, length in zip(present, lengths, strict=True)]
        targets = present if self.several else clip % number
        held = Sounds(torch.cat(sounds), lengths)
        return Clips(held, clip, targets, samples=samples, chunks=None if split == "train" else chunks)

    def smoke(self) -> Tones:
        """The same: it needs no files."""
        return self

    def _tone(self, present: torch.Tensor, length: int, draw: torch.Generator) -> torch.Tensor:
        pitches = 110 * 1.5 ** torch.arange(len(self.categories))[present > 0]
        order = torch.arange(1, 7)
        time = torch.arange(length) / self.sample_rate
        phases = 2 * torch.pi * (torch.outer(pitches, order)[..., None] * time + torch.rand(1, generator=draw))
        wave = (torch.sin(phases) / order[:, None]).sum(dim=(0, 1))
        return (3000 * (wave + 0.3 * torch.randn(length, generator=draw))).clamp(-32768, 32767).short()

"""Dataset of sound clips: windows of one length, at random places in training, evenly spaced in testing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tangential.experiments.data.faults import DataError, warn_left_out
from tangential.experiments.data.fingerprint import tensor_fingerprint
from tangential.experiments.data.sounds.decoding import Sounds, cached_sounds
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

Batch = tuple[Tensor, ...]
"""Waves from -1 to 1, `(batch, samples)` in training and `(batch, chunks, samples)` in testing, and their targets."""

SPLITS = ("train", "validation", "test")


class Clips(Dataset[Batch]):
    """Sounds that are fetched a whole batch at a time, in windows of one length.

    A longer sound is cropped: in training at a random place, in testing at evenly spaced ones from its start to its
    end, one alone in the middle. A shorter one is padded with silence: in training it lies at a random place, in
    testing in the middle.

    Args:
        sounds: The sounds.
        chosen: Which of them, `(count,)`.
        targets: What they are, `(count,)` classes or `(count, tags)` zeros and ones.
        samples: Length of a window.
        chunks: Windows of each sound in testing; None for training.

    Examples:
        >>> sounds = Sounds(torch.arange(1, 7, dtype=torch.int16), torch.tensor([6]))
        >>> waves, _ = Clips(sounds, torch.tensor([0]), torch.tensor([0]), samples=2, chunks=3).__getitems__([0])
        >>> (32768 * waves).int().tolist()
        [[[1, 2], [3, 4], [5, 6]]]
    """

    def __init__(
        self, sounds: Sounds, chosen: Tensor, targets: Tensor, *, samples: int, chunks: int | None = None
    ) -> None:
        check_at_least(1, samples=samples, chunks=chunks)
        self.targets = targets
        self.lengths = sounds.lengths[chosen]
        self._starts = (sounds.lengths.cumsum(0) - sounds.lengths)[chosen]
        self._all = sounds.samples
        self._samples, self._chunks = samples, chunks

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        waves, targets = self.__getitems__([index])
        return waves[0], targets[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch, drawing from torch's global generator in training."""
        chosen = torch.as_tensor(indices)
        places = self._places(self.lengths[chosen] - self._samples)
        waves = torch.zeros(*places.shape, self._samples)
        for clip, row, offsets in zip(chosen.tolist(), waves, places.tolist(), strict=True):
            for window, offset in zip(row, offsets, strict=True):
                self._fill(window, clip, offset)
        return waves[:, 0] if self._chunks is None else waves, self.targets[chosen]

    def fingerprint(self) -> str:
        """Hash of the clips, up to 4,096 samples of the middle of each, and of their targets.

        See `tangential.experiments.data.fingerprint`.
        """
        starts, counts = self._starts + (self.lengths - 4096).clamp(0) // 2, self.lengths.clamp(max=4096)
        middles = [self._all[begin : begin + count] for begin, count in zip(starts, counts, strict=True)]
        return tensor_fingerprint(self.lengths, self.targets, *middles)

    def _places(self, spare: Tensor) -> Tensor:
        """Where the window starts in a longer sound, or a shorter sound in the window, `(batch, chunks)`.

        Args:
            spare: By how much each sound is longer than the window.
        """
        room = spare.abs()[:, None]
        if self._chunks is None:
            return (torch.rand(len(spare), 1, dtype=torch.float64) * (room + 1)).long()
        fractions = torch.linspace(0, 1, self._chunks, dtype=torch.float64)
        middle = (spare < 0)[:, None] | (self._chunks == 1)
        return (torch.where(middle, 0.5, fractions) * room).round().long()

    def _fill(self, window: Tensor, clip: int, offset: int) -> None:
        start, length = int(self._starts[clip]), int(self.lengths[clip])
        if length >= len(window):
            window[:] = self._all[start + offset : start + offset + len(window)]
        else:
            window[offset : offset + length] = self._all[start : start + length]
        window /= 32768


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of a data set.

    Args:
        name: What it is called.
        paths: All files.
        targets: What they are, `(count,)` classes or `(count, tags)` zeros and ones.
        splits: Of which split of the data set each is, as a number into `SPLITS`, `(count,)`.
        known: What tells the content of these files from any other, if anything does but their times.
        left_out: A line on each file of the folder that is no clip of the data set.
    """

    name: str
    paths: Sequence[Path]
    targets: Tensor
    splits: Tensor
    known: str | None = None
    left_out: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Recordings(ABC):
    """Sound files on disk; decoded at the first use, and stored in the cache.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        sample_rate: Samples per second; files of another rate are resampled.
        test: What is tested on: `test`, or `validation` to choose settings by.
        limit: Use only so many clips of each split, evenly spaced in the list, for a quick try; None for all.

    Raises:
        ValueError: Another name of a split, or a number below one.
    """

    root: str | None = None
    sample_rate: int = 16000
    test: str = "test"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.test not in SPLITS[1:]:
            raise ValueError(f"test={self.test}: must be test or validation")
        check_at_least(1, sample_rate=self.sample_rate)
        check_at_least(1, limit=self.limit, note="or none for all clips")

    @abstractmethod
    def listing(self) -> Listing:
        """All files with their targets and the split that each belongs to."""

    def load(self, split: Split, *, samples: int, chunks: int) -> Clips:
        """Open one split; what cannot be used is left out, with a warning that names it.

        Args:
            split: Which.
            samples: Length of a window.
            chunks: Windows of each clip in testing.

        Raises:
            ValueError: The data are not there; the error is one line with where to get them and where to put them. Or
                no clip of the split can be used.
        """
        files = self.listing()
        published = "train" if split == "train" else self.test
        chosen = (files.splits == SPLITS.index(published)).nonzero().flatten()
        sounds = cached_sounds(files.name, files.paths, self.sample_rate, known=files.known)
        usable = sounds.lengths[chosen] > 0
        unusable = [f"{files.paths[number].name} ({sounds.faults[number]})" for number in chosen[~usable].tolist()]
        warn_left_out(files.name, f"{published} clips", unusable, count=len(chosen))
        warn_left_out(files.name, "files", files.left_out)
        chosen = chosen[usable]
        if not len(chosen):
            raise DataError(f"{files.name} has no {published} clips that can be used")
        if self.limit is not None and self.limit < len(chosen):
            chosen = chosen[torch.linspace(0, len(chosen) - 1, self.limit).round().long()]
        return Clips(
            sounds, chosen, files.targets[chosen], samples=samples, chunks=None if split == "train" else chunks
        )

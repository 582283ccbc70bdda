"""A long text as parallel streams of segments, each following the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tangential.experiments.data.fingerprint import tensor_fingerprint
from tangential.experiments.settings.bounds import check_at_least

IGNORED = -100
"""The target where a shorter stream has ended; torch's own mark."""


class Segment(NamedTuple):
    """The next tokens of every stream, and their targets.

    Attributes:
        tokens: `(streams, length)`.
        targets: The token after each, or `IGNORED`, `(streams, length)`.
        first: Whether the streams begin here.
        last: Whether they end here.
    """

    tokens: Tensor
    targets: Tensor
    first: bool
    last: bool


class Streams(Dataset[Segment]):
    """A text cut into contiguous streams side by side, and these into segments.

    Every token but the first is a target exactly once. The streams differ in length by at most one token, which is
    ignored at the end of those that are shorter; the last segment may be shorter than the others.

    Args:
        text: Tokens, `(count,)`.
        streams: How many streams there are, the batch size.
        length: Tokens in a segment.

    Raises:
        ValueError: A number below one, or a text with less than one target for each stream.

    Examples:
        >>> segments = Streams(torch.arange(8), streams=2, length=3)
        >>> [segments[(index, 0)].targets.tolist() for index in range(len(segments))]
        [[[1, 2, 3], [5, 6, 7]], [[4], [-100]]]
    """

    def __init__(self, text: Tensor, *, streams: int, length: int) -> None:
        check_at_least(1, streams=streams, length=length)
        if len(text) <= streams:
            raise ValueError(f"{len(text)} tokens are too few for {streams} streams; take fewer, or a longer text")
        self._text, self._length = text, length
        least, longer = divmod(len(text) - 1, streams)
        self._lengths = torch.full((streams,), least)
        self._lengths[:longer] += 1
        self._starts = self._lengths.cumsum(0) - self._lengths

    def __len__(self) -> int:
        """How many segments one pass has."""
        return -(-int(self._lengths.max()) // self._length)

    @property
    def tokens(self) -> int:
        """How long the text is."""
        return len(self._text)

    def fingerprint(self) -> str:
        """Hash of the text's tokens; see `tangential.experiments.data.fingerprint`."""
        return tensor_fingerprint(self._text)

    def __getitem__(self, key: tuple[int, int]) -> Segment:
        """One segment.

        Args:
            key: Which segment, and how many tokens of the text's beginning are moved to its end.
        """
        index, offset = key
        begin = index * self._length
        within = torch.arange(begin, min(begin + self._length, int(self._lengths.max())))
        places = self._starts[:, None] + within
        here, there = (self._text[(places + offset + step) % len(self._text)].long() for step in (0, 1))
        there[within >= self._lengths[:, None]] = IGNORED
        return Segment(here, there, first=index == 0, last=index == len(self) - 1)


class _InTurn(Sampler[tuple[int, int]]):
    """The segments one after the other, from an offset that is drawn for each pass."""

    def __init__(self, segments: Streams, generator: torch.Generator | None) -> None:
        self._segments, self._generator = segments, generator

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # A generator: it draws when the first segment is taken. Loaders with workers make an iterator they do not use.
        offset = 0
        if self._generator is not None:
            offset = int(torch.randint(self._segments.tokens, (), generator=self._generator))
        for index in range(len(self._segments)):
            yield index, offset


def in_turn(
    text: Tensor, *, streams: int, length: int, generator: torch.Generator | None = None, workers: int = 0
) -> DataLoader[Segment]:
    """Dataloader of the segments of a text, one after the other, as a memory that is carried along needs them.

    Args:
        text: Tokens, `(count,)`.
        streams: How many streams there are side by side.
        length: Tokens in a segment.
        generator: Draws for each pass where the text begins: what lies before is read at the end. None for its own
            beginning.
        workers: Processes that cut the segments; 0 cuts them in the process that trains.
    """
    segments = Streams(text, streams=streams, length=length)
    return DataLoader(
        segments, sampler=_InTurn(segments, generator), batch_size=None, generator=generator, num_workers=workers
    )

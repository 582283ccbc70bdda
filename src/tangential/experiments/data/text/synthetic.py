"""Text drawn from a fixed seed, that needs no data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tangential.experiments.data.text.tokenizers import Characters
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

_WORDS = ("a", "ba", "do", "lu", "mira", "no", "tesi", "vo")
_SEEDS = {"train": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class SyntheticText:
    """Words without meaning in random order, character by character.

    Args:
        count: Characters of each split.

    Raises:
        ValueError: Fewer than two characters.

    Examples:
        >>> SyntheticText(count=6).load("train").shape, len(SyntheticText().lengths())
        (torch.Size([6]), 15)
    """

    count: int = 257

    def __post_init__(self) -> None:
        check_at_least(2, note="one character and the next", count=self.count)

    def load(self, split: Split) -> Tensor:
        """Draw one split; the same one at every call."""
        draw = torch.Generator().manual_seed(_SEEDS[split])
        drawn = torch.randint(len(_WORDS), (self.count,), generator=draw)  # a word has a letter at least
        return Characters().encode(_learned(), " ".join(_WORDS[word] for word in drawn)[: self.count])

    def lengths(self) -> Tensor:
        """Characters that each token stands for: one."""
        return Characters().lengths(_learned(), [])

    def smoke(self) -> SyntheticText:
        """The same: it needs no files."""
        return self


def _learned() -> str:
    return Characters().learn(lambda _: [" ".join(_WORDS)])

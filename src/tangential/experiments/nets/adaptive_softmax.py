"""A softmax over many words that computes few of them: the adaptive softmax of Grave et al. (arXiv 1609.04309)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear


class AdaptiveSoftmax(nn.Module):
    """Predict a frequent word at once, and a rare one in two steps: first its cluster, then the word in it.

    Unlike `torch.nn.AdaptiveLogSoftmaxWithLoss` it gives every word a vector of the full width, so that these vectors
    may be the embedding's, and each word a bias.

    Args:
        width: Of the states.
        words: How many there are, the most frequent first.
        cutoffs: Where the clusters of rare words begin, rising; none for a plain softmax.
        weight: The words' vectors, `(words, width)`, of the embedding for example, a parameter; None for
            new ones.

    Raises:
        ValueError: Cut-offs that do not rise, or lie outside the words.

    Example:
        >>> head = AdaptiveSoftmax(width=8, words=100, cutoffs=(10, 50))
        >>> head(torch.randn(4, 8), torch.tensor([3, 10, 99, -100])).shape
        torch.Size([4])
    """

    def __init__(self, *, width: int, words: int, cutoffs: tuple[int, ...] = (), weight: Tensor | None = None) -> None:
        super().__init__()
        if any(low >= high for low, high in zip((0, *cutoffs), (*cutoffs, words), strict=True)):
            raise ValueError(f"cutoffs={cutoffs}: must rise, from above 0 to below the {words} words there are")
        self.weight = nn.Parameter(torch.empty(words, width).normal_(std=0.02)) if weight is None else weight
        self.bias = nn.Parameter(torch.zeros(words))
        self._first = (*cutoffs, words)[0]
        self._rest = list(zip(cutoffs, (*cutoffs, words)[1:], strict=False))
        if self._rest:
            self.clusters = nn.Parameter(torch.empty(len(cutoffs), width).normal_(std=0.02))
            self.cluster_bias = nn.Parameter(torch.zeros(len(cutoffs)))

    def forward(self, states: Tensor, targets: Tensor) -> Tensor:
        """Measure how surprising the targets are.

        Args:
            states: `(..., width)`.
            targets: Words, or -100 where nothing is to be predicted, as torch has it, `(...)`.

        Returns:
            Minus the logarithm of each target's probability, in nats, 0 where it is ignored, `(...)`.
        """
        flat, words = states.flatten(0, -2), targets.flatten()
        step = words
        for number, (low, high) in enumerate(self._rest):
            step = step.where((words < low) | (words >= high), self._first + number)
        nats = cross_entropy(self._first_step(flat), step, reduction="none")
        for low, high in self._rest:
            (inside,) = ((words >= low) & (words < high)).nonzero(as_tuple=True)
            found = cross_entropy(self._logits(flat[inside], low, high), words[inside] - low, reduction="none")
            nats = nats.index_add(0, inside, found)
        return nats.view(targets.shape)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Give the logarithm of every word's probability, `(..., words)`, for states `(..., width)`."""
        first = self._first_step(states).log_softmax(dim=-1)
        parts = [first[..., : self._first]]
        for number, (low, high) in enumerate(self._rest):
            cluster = first[..., self._first + number, None]
            parts.append(cluster + self._logits(states, low, high).log_softmax(dim=-1))
        return torch.cat(parts, dim=-1)

    def _first_step(self, states: Tensor) -> Tensor:
        """The logits of the frequent words and of the clusters."""
        if not self._rest:
            return linear(states, self.weight, self.bias)
        weight = torch.cat([self.weight[: self._first], self.clusters])
        return linear(states, weight, torch.cat([self.bias[: self._first], self.cluster_bias]))

    def _logits(self, states: Tensor, low: int, high: int) -> Tensor:
        return linear(states, self.weight[low:high], self.bias[low:high])

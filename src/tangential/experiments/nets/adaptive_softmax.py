"""Adaptive softmax (Grave et al., arXiv 1609.04309): a softmax over a large vocabulary that computes few logits.

The words are sorted by frequency, and `cutoffs` split them into a shortlist `[0, cutoffs[0])` and clusters of rarer
words `[cutoffs[i], cutoffs[i + 1])`. A first softmax is over the shortlist and one entry for each cluster; a second one
over the words of a cluster:

    log p(word) = log p(first = word)                                     in the shortlist
    log p(word) = log p(first = cluster) + log p(word | cluster)          elsewhere

In training the second softmax is computed only for the states whose target lies in the cluster, which are few: that is
the whole saving. The result is exact, not sampled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear


class AdaptiveSoftmax(nn.Module):
    """Output layer: frequent words in one softmax, a rare word as its cluster and then the word in it.

    Unlike `torch.nn.AdaptiveLogSoftmaxWithLoss` every word has a vector of the full width, so that the vectors can be
    tied to those of the embedding, and a bias.

    Args:
        width: Of the states.
        words: How many there are, the most frequent first.
        cutoffs: First words of the clusters, ascending; empty for a plain softmax.
        weight: Parameter with the words' vectors, `(words, width)`, such as the embedding's; None for new ones.

    Raises:
        ValueError: Cut-offs that do not ascend, or lie outside the words.

    Examples:
        >>> head = AdaptiveSoftmax(width=8, words=100, cutoffs=(10, 50))
        >>> head(torch.randn(4, 8), torch.tensor([3, 10, 99, -100])).shape
        torch.Size([4])
    """

    def __init__(self, *, width: int, words: int, cutoffs: tuple[int, ...] = (), weight: Tensor | None = None) -> None:
        super().__init__()
        if any(low >= high for low, high in zip((0, *cutoffs), (*cutoffs, words), strict=True)):
            raise ValueError(f"cutoffs={cutoffs}: must rise, from above 0 to below the number of words, {words}")
        self.weight = nn.Parameter(torch.empty(words, width).normal_(std=0.02)) if weight is None else weight
        self.bias = nn.Parameter(torch.zeros(words))
        self._first = (*cutoffs, words)[0]
        self._rest = list(zip(cutoffs, (*cutoffs, words)[1:], strict=False))
        if self._rest:
            self.clusters = nn.Parameter(torch.empty(len(cutoffs), width).normal_(std=0.02))
            self.cluster_bias = nn.Parameter(torch.zeros(len(cutoffs)))

    def forward(self, states: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of the targets.

        Args:
            states: `(..., width)`.
            targets: Words, or -100 (torch's `ignore_index`) where nothing is predicted, `(...)`.

        Returns:
            `-log p(target)` of each target in nats, 0 where it is ignored, `(...)`.
        """
        flat, words = states.flatten(0, -2), targets.flatten()
        first_targets = words  # the word itself, or the entry of its cluster
        for number, (low, high) in enumerate(self._rest):
            first_targets = first_targets.where((words < low) | (words >= high), self._first + number)
        nats = cross_entropy(self._first_logits(flat), first_targets, reduction="none")
        for low, high in self._rest:
            (inside,) = ((words >= low) & (words < high)).nonzero(as_tuple=True)
            within = cross_entropy(self._logits(flat[inside], low, high), words[inside] - low, reduction="none")
            nats = nats.index_add(0, inside, within)
        return nats.view(targets.shape)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Logarithm of every word's probability, `(..., words)`, for states `(..., width)`."""
        first = self._first_logits(states).log_softmax(dim=-1)
        parts = [first[..., : self._first]]
        for number, (low, high) in enumerate(self._rest):
            cluster = first[..., self._first + number, None]
            parts.append(cluster + self._logits(states, low, high).log_softmax(dim=-1))
        return torch.cat(parts, dim=-1)

    def _first_logits(self, states: Tensor) -> Tensor:
        """Logits of the shortlist and of the clusters, `(..., shortlist + clusters)`."""
        if not self._rest:
            return linear(states, self.weight, self.bias)
        weight = torch.cat([self.weight[: self._first], self.clusters])
        return linear(states, weight, torch.cat([self.bias[: self._first], self.cluster_bias]))

    def _logits(self, states: Tensor, low: int, high: int) -> Tensor:
        return linear(states, self.weight[low:high], self.bias[low:high])

"""Attention that knows how far back it looks, not where it stands: Transformer-XL's (arXiv 1901.02860, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad


def waves(distances: Tensor, width: int) -> Tensor:
    """Give the sinusoids of distances: the sines of `width / 2` frequencies, then their cosines.

    Args:
        distances: How many tokens back, `(count,)`, of a float type, which is also that of the result.
        width: An even number.

    Returns:
        The sinusoids, `(count, width)`.

    Example:
        >>> waves(torch.zeros(1), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    powers = torch.arange(0, width, 2, dtype=distances.dtype, device=distances.device) / width
    angles = distances[:, None] / 10000**powers
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def by_key(scores: Tensor) -> Tensor:
    """Turn scores by distance into scores by key.

    Every query has its scores in the order of falling distance, from `keys - 1` to 0, but the last query alone has all
    these distances before it. Each row is shifted so that a score stands at the key that it is about.

    Args:
        scores: `(..., queries, keys)`.

    Returns:
        The same scores, `(..., queries, keys)`. Where the key comes after the query, the value means nothing.

    Example:
        >>> by_key(torch.tensor([[2, 1, 0], [2, 1, 0]])).tolist()  # the first 0, and the one after it, mean nothing
        [[1, 0, 0], [2, 1, 0]]
    """
    *outer, queries, keys = scores.shape
    return pad(scores, (1, 0)).reshape(*outer, keys + 1, queries)[..., 1:, :].reshape(*outer, queries, keys)


class RelativeAttention(nn.Module):
    """Attention over a segment and what is remembered from before, each score a sum of four terms.

    Content with content, content with distance, and for both a bias in place of the query, the same for all queries:
    `(q + u) . k + (q + v) . W r`, divided by the root of the head's width.

    Args:
        width: Of the states.
        heads: How many heads.
        head_width: Of each; `heads * head_width` may differ from `width`.
        dropout: Share of the attention weights that training drops.
    """

    def __init__(self, *, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._inner = heads, heads * head_width
        self.qkv = nn.Linear(width, 3 * self._inner, bias=False)
        self.distance = nn.Linear(width, self._inner, bias=False)
        self.out = nn.Linear(self._inner, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor, sinusoids: Tensor, biases: Tensor, hidden: Tensor) -> Tensor:
        """Look back from every state.

        Args:
            states: `(batch, queries, width)`.
            seen: What is looked at, `states` being its end, `(batch, keys, width)`.
            sinusoids: Of the distances `keys - 1` to 0, `(keys, width)`.
            biases: `u` and `v`, `(2, heads, head_width)`.
            hidden: Which keys a query must not see, `(queries, keys)`.

        Returns:
            What was found, `(batch, queries, width)`.
        """
        weight = self.qkv.weight  # taken once: weight normalisation computes it anew at each access
        queries = self._by_head(linear(states, weight[: self._inner]))
        keys, values = map(self._by_head, linear(seen, weight[self._inner :]).chunk(2, dim=-1))
        distances = self._by_head(self.distance(sinusoids))
        content, position = biases[:, :, None]
        scores = (queries + content) @ keys.mT + by_key((queries + position) @ distances.mT)
        scores = (scores / values.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        found = self.dropout(scores.softmax(dim=-1)) @ values
        return self.out(found.transpose(1, 2).flatten(2))

    def _by_head(self, vectors: Tensor) -> Tensor:
        """`(..., length, heads * head_width)` as `(..., heads, length, head_width)`."""
        return vectors.unflatten(-1, (self._heads, -1)).transpose(-3, -2)

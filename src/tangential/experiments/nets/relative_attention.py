"""Relative positional attention of Transformer-XL (arXiv 1901.02860, section 3.3).

The score of query i and key j depends on their distance i - j, not on their positions, so that states of an earlier
segment can be keys although their positions there were others:

    score(i, j) = (q_i + u) . k_j + (q_i + v) . W r_(i-j),        r the sinusoids of a distance

The second term would need a row `W r` for every pair (i, j). Instead it is computed once for each *distance*, which
gives a matrix `(queries, distances)`, and `by_key` shifts row i so that column j holds distance i - j. One matrix
product and a reshape replace `queries * keys` products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad


def waves(distances: Tensor, width: int) -> Tensor:
    """Sinusoids of distances: the sines of `width / 2` frequencies, then their cosines.

    Args:
        distances: How many tokens back, `(count,)`, of a float type, which is also that of the result.
        width: An even number.

    Returns:
        The sinusoids, `(count, width)`.

    Examples:
        >>> waves(torch.zeros(1), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    powers = torch.arange(0, width, 2, dtype=distances.dtype, device=distances.device) / width
    angles = distances[:, None] / 10000**powers
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def by_key(scores: Tensor) -> Tensor:
    """Relative shift: scores by distance become scores by key.

    Column c of the input is distance `keys - 1 - c`, for every query. Query i of n attends to keys up to position
    `keys - n + i`, so its row must move left by `n - 1 - i`. A column of padding in front makes the flattened rows one
    longer than the rows they are cut into again, and that shifts each by one more than the next.

    Args:
        scores: `(..., queries, keys)`.

    Returns:
        The same scores, `(..., queries, keys)`. Where the key comes after the query, the value means nothing.

    Examples:
        >>> by_key(torch.tensor([[2, 1, 0], [2, 1, 0]])).tolist()  # the first 0, and the one after it, mean nothing
        [[1, 0, 0], [2, 1, 0]]
    """
    *outer, queries, keys = scores.shape
    return pad(scores, (1, 0)).reshape(*outer, keys + 1, queries)[..., 1:, :].reshape(*outer, queries, keys)


class RelativeAttention(nn.Module):
    """Multi-head attention over a segment and the memory before it, with relative positions.

    A score is `(q + u) . k + (q + v) . W r`, divided by the root of the head's width; `u` and `v` are biases that all
    queries, and all layers, share.

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
        """Attend from every state of the segment.

        Args:
            states: `(batch, queries, width)`.
            seen: Memory and segment together, `states` being the end, `(batch, keys, width)`.
            sinusoids: Of the distances `keys - 1` to 0, `(keys, width)`.
            biases: `u` and `v`, `(2, heads, head_width)`.
            hidden: Mask of the keys that a query must not attend to, `(queries, keys)`.

        Returns:
            The attention's output, `(batch, queries, width)`.
        """
        weight = self.qkv.weight  # read once: under weight normalisation each access computes it
        queries = self._by_head(linear(states, weight[: self._inner]))
        keys, values = map(self._by_head, linear(seen, weight[self._inner :]).chunk(2, dim=-1))
        distances = self._by_head(self.distance(sinusoids))
        content, position = biases[:, :, None]
        scores = (queries + content) @ keys.mT + by_key((queries + position) @ distances.mT)
        scores = (scores / values.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        attended = self.dropout(scores.softmax(dim=-1)) @ values
        return self.out(attended.transpose(1, 2).flatten(2))

    def _by_head(self, vectors: Tensor) -> Tensor:
        """`(..., length, heads * head_width)` as `(..., heads, length, head_width)`."""
        return vectors.unflatten(-1, (self._heads, -1)).transpose(-3, -2)

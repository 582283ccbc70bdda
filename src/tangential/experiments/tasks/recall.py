"""Recall@K: the share of queries that have an image of their own class among their K nearest neighbours.

It is exact, without sorting: a query is found at K if fewer than K images of other classes are as near as the nearest
one of its own class. So one pass over the cosines `(queries, gallery)` gives every K at once, in blocks of queries, so
that memory does not grow with the square of the images. Ties count against the net: one that maps all images to one
point has a recall of 0, whatever their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.tasks.finite import all_finite

TIE = 1e-6
"""Cosines that differ by less are ties: that is float32's rounding, which depends on the block."""

BLOCK = 2**24
"""Cosines in memory at a time."""


def recall(
    queries: Tensor,
    classes: Tensor,
    gallery: Tensor | None = None,
    gallery_classes: Tensor | None = None,
    *,
    at: Sequence[int] = (1,),
    block: int = BLOCK,
) -> list[float]:
    """Recall@K by cosine.

    A query whose class has no other image is left out of the mean, but stays in the gallery.

    Args:
        queries: Unit vectors, `(n, dim)`.
        classes: Their classes, `(n,)`.
        gallery: The vectors that are searched, `(m, dim)`; None for the queries, each without itself.
        gallery_classes: Their classes, `(m,)`.
        at: The K.
        block: Cosines in memory at a time; the result does not depend on it.

    Returns:
        The recall from 0 to 1 for each of `at`; nan for all if an embedding is not finite.

    Raises:
        ValueError: No query has another image of its class, or a K or block is below one.

    Examples:
        >>> points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> recall(points, torch.tensor([0, 1, 0]), at=(1, 2))
        [0.0, 1.0]
    """
    check_at_least(1, at=at, block=block)
    if not all_finite(*(each for each in (queries, gallery) if each is not None)):
        return [math.nan for _ in at]
    before = wrong_before(queries, classes, gallery, gallery_classes, block=block)
    before = before[before >= 0]
    if not len(before):
        raise ValueError("no query has another image of its class to find, so there is no recall")
    return [int((before < k).sum()) / len(before) for k in at]


def wrong_before(
    queries: Tensor,
    classes: Tensor,
    gallery: Tensor | None = None,
    gallery_classes: Tensor | None = None,
    *,
    block: int = BLOCK,
) -> Tensor:
    """For each query, the number of images of other classes that are at least as near as the nearest of its own.

    Args:
        queries: See `recall`.
        classes: See there.
        gallery: See there.
        gallery_classes: See there.
        block: See there.

    Returns:
        Integers `(n,)`; -1 where there is none of the query's class.
    """
    itself = gallery is None
    if gallery is None or gallery_classes is None:
        gallery, gallery_classes = queries, classes
    rows = max(1, block // max(1, len(gallery)))
    counts = [torch.empty(0, dtype=torch.int64, device=queries.device)]
    for start in range(0, len(queries) if len(gallery) else 0, rows):
        cosines = queries[start : start + rows] @ gallery.T
        same = classes[start : start + rows, None] == gallery_classes
        if itself:
            own = torch.arange(len(cosines), device=cosines.device)
            cosines[own, start + own] = -math.inf
            same[own, start + own] = False
        best = cosines.masked_fill(~same, -math.inf).amax(1)
        wrong = ((cosines >= best[:, None] - TIE) & ~same).sum(1)
        counts.append(wrong.where(best > -math.inf, -1))
    return torch.cat(counts)


def nearest(queries: Tensor, gallery: Tensor, count: int, *, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Nearest neighbours of a few queries by cosine.

    Args:
        queries: Unit vectors, `(n, dim)`.
        gallery: The vectors that are searched, `(m, dim)`.
        count: Neighbours per query; fewer if the gallery is smaller.
        without: For each query the index in the gallery that is left out, `(n,)`: the query itself.

    Returns:
        Cosines and indices in the gallery, `(n, count)` each, the nearest first.

    Raises:
        ValueError: A vector is not finite, so that nothing is nearest.

    Examples:
        >>> nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 1)[1].tolist()
        [[1]]
    """
    cosines = queries @ gallery.T
    if not all_finite(cosines):
        raise ValueError("an embedding is not finite, so it has no nearest neighbours; the run has diverged")
    if without is not None:
        cosines = cosines.scatter(1, without[:, None], -math.inf)
    found = cosines.topk(min(count, len(gallery) - (without is not None)), dim=1)
    return found.values, found.indices

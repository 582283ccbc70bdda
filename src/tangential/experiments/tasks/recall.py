"""Recall@K: the share of queries that have an image of their own class among their K nearest neighbours.

It is exact, and computed a block of queries at a time, so that memory does not grow with the square of the images. Ties
count against the net: a net that maps all images to one point finds nothing, whatever the order they lie in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TIE = 1e-6
"""Cosines that differ by less are equal: float32 cannot tell them apart, and different blocks round differently."""

BLOCK = 2**24
"""Cosines that are held at a time."""


def recall(
    queries: Tensor,
    classes: Tensor,
    gallery: Tensor | None = None,
    gallery_classes: Tensor | None = None,
    *,
    at: Sequence[int] = (1,),
    block: int = BLOCK,
) -> list[float]:
    """Measure Recall@K by cosine.

    A query of whose class there is no other image cannot be answered. It does not count, but stays in the gallery.

    Args:
        queries: Unit vectors, `(n, dim)`.
        classes: Their classes, `(n,)`.
        gallery: What is searched, `(m, dim)`; None for the queries themselves, each without itself.
        gallery_classes: Their classes, `(m,)`.
        at: The numbers of neighbours K.
        block: How many cosines to hold at a time; the result does not depend on it.

    Returns:
        A share from 0 to 1 for each of `at`; nan for all if an embedding is not finite.

    Raises:
        ValueError: No query has an image of its class to find, or a K or block below one.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> recall(points, torch.tensor([0, 1, 0]), at=(1, 2))
        [0.0, 1.0]
    """
    if min((*at, block)) < 1:
        raise ValueError(f"at={tuple(at)}, block={block}: must be at least 1")
    if not all(bool(each.isfinite().all()) for each in (queries, gallery) if each is not None):
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
    """Count for each query the images of other classes that are as near as the nearest of its own, or nearer.

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
    """Find the nearest neighbours of a few queries by cosine.

    Args:
        queries: Unit vectors, `(n, dim)`.
        gallery: What is searched, `(m, dim)`.
        count: How many to find; fewer come back where there are not as many.
        without: For each query the one image of the gallery that does not count, `(n,)`: the query itself.

    Returns:
        Their cosines and their numbers in the gallery, `(n, count)` each, the nearest first.

    Example:
        >>> nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 1)[1].tolist()
        [[1]]
    """
    cosines = queries @ gallery.T
    if without is not None:
        cosines = cosines.scatter(1, without[:, None], -math.inf)
    found = cosines.topk(min(count, len(gallery) - (without is not None)), dim=1)
    return found.values, found.indices

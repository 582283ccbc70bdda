"""The two walks over the local parts of weights whose sums are shared: one before the message, one after it.

    row_sums   write the moments; the sums of every local row
    move       the direction once more, from those moments; w <- keep w - lr u

Nothing of the size of a weight is held in between. On a CPU each walk goes piece by piece, so that what one operation
wrote is in the cache for the next; under `foreach=False` weight by weight; elsewhere all weights at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tangential.backends import foreach
from tangential.backends.buckets import Bucket
from tangential.backends.cpu_chunks import PIECE, cut
from tangential.backends.modes import recording


def row_sums(bucket: Bucket, *, singly: bool) -> Tensor:
    """Write this step's moments; `ww, wu` or `ww, gg, wg, wu` of every row, `(2 or 4, rows of all weights)`."""
    found = []
    for piece in _pieces(bucket, singly):
        piece = piece.prepared()
        found.append(foreach.sums(piece, foreach.advance(piece)))
    return torch.cat(found, 1)


def move(bucket: Bucket, factors: Tensor, *, singly: bool) -> None:
    """Move the weights, with one factor per row of all of them."""
    pieces = list(_pieces(bucket, singly))
    counts = [sum(foreach.rows(w, piece.dim) for w in piece.weights) for piece in pieces]
    for piece, factor in zip(pieces, factors.split(counts), strict=True):
        piece = piece.prepared()
        foreach.move(piece, factor, foreach.direction(piece))


def _pieces(bucket: Bucket, singly: bool) -> Iterator[Bucket]:
    """Parts of the bucket in the order of its rows."""
    if not singly and (recording() or not bucket.weights[0].is_cpu):
        yield bucket
        return
    together: list[int] = []
    room = PIECE
    for i, w in enumerate(bucket.weights):
        if together and (singly or w.numel() > room):
            yield bucket.only(together)
            together, room = [], PIECE
        if w.numel() > PIECE and not singly:
            yield from cut(bucket.only([i]), max(1, PIECE * foreach.rows(w, bucket.dim) // w.numel()))
        else:
            together.append(i)
            room -= w.numel()
    if together:
        yield bucket.only(together)

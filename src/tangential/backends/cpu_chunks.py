"""Foreach backend on a CPU: steps of pieces that fit the cache, so that one pass finds what the last one wrote there.

A bucket goes through three cuts, each of which keeps whole rows together:

    by count   weights of equal step count, as a number, so that the bias correction is one
    by form    dense weights, as matrices `(rows, elements of each)`, and the others as they are
    by size    as many small weights as fit `PIECE` elements at once, or one large weight in pieces of rows

On a CPU a value is read without waiting, so the paper's test is made first, from three sums; after it every weight has
known blocks (`Blocks()`, `Blocks(size=None)` or None), and those not projected can take torch's own fused step. A block
that does not end with a piece needs its sums before any of its rows may move: the pieces are then walked twice, with
the direction worked out again from the moments that the first walk wrote (`_large`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tangential.backends import torch_fused as native
from tangential.backends.buckets import Bucket
from tangential.backends.foreach import advance, angle_sums, direction, keep, move, rows, sums
from tangential.backends.rows import lay_out
from tangential.backends.tensor_list import TensorList
from tangential.blocks import Blocks
from tangential.kernels.plan import form

PIECE = 1 << 19
"""Elements per piece: 2 MiB in float32, small enough for a cache, large enough to hide Python's overhead."""

Advance = Callable[[Bucket], TensorList]
"""Function that writes the moments of a bucket and returns the direction."""


def chunked(bucket: Bucket) -> None:
    """Take one step, piece by piece."""
    lr, decay = float(bucket.projection.lr), float(bucket.projection.decay)
    bucket = replace(bucket, projection=replace(bucket.projection, lr=lr, decay=decay))
    for alike in _by_count(bucket):
        dense, loose = _by_form(alike)
        for part, fused in ((dense, native.knows), (loose, lambda _: False)):
            if part.weights:
                _step(part, fused(part))


def _step(bucket: Bucket, fused: bool) -> None:
    """Take one step; `fused` is whether torch's own fused optimizers may write the moments."""
    if fused and bucket.blocks is None and bucket.weights[0].dtype == bucket.moments[0][0].dtype:
        native.descend(bucket)
        return
    forward = native.advance if fused else advance
    for span in _spans(bucket):
        if isinstance(span.blocks, str):
            for known in _decided(span):
                _step(known, fused)
        elif span.weights[0].numel() <= PIECE:
            _whole(span, forward)
        else:
            _large(span, forward)


def _whole(bucket: Bucket, advance: Advance) -> None:
    """All at once, as `foreach` does it."""
    bucket = bucket.prepared()
    u = advance(bucket)
    move(bucket, bucket.projection.plain if bucket.blocks is None else keep(bucket, sums(bucket, u)), u)


def _large(bucket: Bucket, advance: Advance) -> None:
    """Pieces on their own where blocks end with them; else sums of all, one gate, and the directions once more."""
    size = _rows_together(bucket)
    step = max(1, PIECE * rows(bucket.weights[0], bucket.dim) // bucket.weights[0].numel())
    if size <= step:
        for piece in cut(bucket, step // size * size):
            _whole(piece, advance)
        return
    pieces = list(cut(bucket, step))
    found = [sums(piece, advance(piece)) for piece in (p.prepared() for p in pieces)]
    factors = keep(bucket, torch.cat(found, 1)).split([x.shape[1] for x in found])
    for piece, factor in zip(pieces, factors, strict=True):
        piece = piece.prepared()
        move(piece, factor, direction(piece))


def _decided(bucket: Bucket) -> Iterator[Bucket]:
    """The weights by the decision of the paper's test, or the majority of its votes: with their blocks."""
    ballot = bucket.ballot
    if ballot and ballot.closed:
        views = ballot.majority()
    else:
        layout = lay_out(tuple(tuple(w.shape) for w in bucket.weights), "cosine", bucket.weights[0].device)
        views = layout.views(_angle_sums(bucket), bucket.projection, ballot)
    by_channel, by_layer = (view.tolist() for view in views)
    bucket = replace(bucket, votes=[])
    at = range(len(bucket.weights))
    for blocks, places in (
        (Blocks(), [i for i in at if by_channel[i]]),
        (None, [i for i in at if not by_channel[i] and not by_layer[i]]),
        *((Blocks(size=None), [i]) for i in at if by_layer[i]),
    ):
        if places:
            yield replace(bucket.only(places), blocks=blocks)


def _angle_sums(bucket: Bucket) -> Tensor:
    """Sums of the paper's test, of small weights at once, of a large one in pieces, `(3, rows of all weights)`."""
    (w, *others) = bucket.weights
    pieces = cut(bucket, max(1, PIECE * len(w) // w.numel())) if not others else [bucket]
    return torch.cat([angle_sums(piece.prepared()) for piece in pieces], 1)


def _rows_together(bucket: Bucket) -> int:
    """Rows that a cut must not part: those of a block; all where blocks are uneven."""
    if bucket.blocks is None:
        return 1
    assert isinstance(bucket.blocks, Blocks), "the test has been made"
    size = bucket.blocks.size if bucket.blocks.segments is None else None
    return size or rows(bucket.weights[0], bucket.dim)


def cut(bucket: Bucket, step: int) -> Iterator[Bucket]:
    """One weight in pieces of as many rows."""
    (w,) = bucket.weights
    for start in range(0, rows(w, bucket.dim), step):
        stop = min(start + step, rows(w, bucket.dim))

        def piece(tensors: list[Tensor], at: int = start, length: int = stop - start) -> list[Tensor]:
            return [x.narrow(bucket.dim, at, length) if x.ndim else x for x in tensors]

        columns = (bucket.weights, bucket.grads, bucket.remainders, *bucket.moments)
        weights, grads, remainders, *moments = map(piece, columns)
        yield replace(bucket, weights=weights, grads=grads, remainders=remainders, moments=tuple(moments))


def _spans(bucket: Bucket) -> Iterator[Bucket]:
    """As many small weights as fit a piece, or one large weight."""
    small: list[int] = []
    room = PIECE
    for i, w in enumerate(bucket.weights):
        if w.numel() > PIECE:
            yield bucket.only([i])
            continue
        if w.numel() > room:
            yield bucket.only(small)
            small, room = [], PIECE
        small.append(i)
        room -= w.numel()
    if small:
        yield bucket.only(small)


def _by_count(bucket: Bucket) -> Iterator[Bucket]:
    """The weights that have taken as many steps."""
    if not isinstance(bucket.t, list):
        yield bucket
        return
    together: dict[float, list[int]] = {}
    for i, t in enumerate(torch.stack(bucket.t).tolist()):
        together.setdefault(t, []).append(i)
    for t, at in together.items():
        yield replace(bucket.only(at), t=t)


def _by_form(bucket: Bucket) -> tuple[Bucket, Bucket]:
    """Those whose rows lie one after another, as matrices, and the others as they are."""
    seen = [_matrix(bucket, i) for i in range(len(bucket.weights))]
    dense = bucket.only([i for i, shape in enumerate(seen) if shape])
    shapes = [shape for shape in seen if shape]
    blocks = replace(bucket.blocks, dim=0) if isinstance(bucket.blocks, Blocks) else bucket.blocks

    def flat(tensors: list[Tensor]) -> list[Tensor]:
        pairs = zip(tensors, shapes, strict=False)  # a column that there is not is empty
        return [x if x.shape == shape else x.as_strided(shape, (*shape[1:], 1)) for x, shape in pairs]

    columns = (dense.weights, dense.grads, dense.remainders, *dense.moments)
    weights, grads, remainders, *moments = map(flat, columns)
    dense = replace(dense, weights=weights, grads=grads, remainders=remainders, moments=tuple(moments), blocks=blocks)
    return dense, bucket.only([i for i, shape in enumerate(seen) if not shape])


def _matrix(bucket: Bucket, i: int) -> tuple[int, ...] | None:
    """`(rows, elements of each)`, or `(elements,)` without blocks, if a weight, its gradient and moments all lie so."""
    w = bucket.weights[i]
    alike = (bucket.grads[i], *(column[i] for column in (*bucket.moments, bucket.remainders) if column))
    if w.is_contiguous() and all(x.is_contiguous() for x in alike):
        if bucket.blocks is None:
            return (w.numel(),)
        if bucket.dim == 0 and w.ndim:
            return w.shape[0], w.numel() // w.shape[0]
    seen = form(w.shape, w.stride(), bucket.dim)
    if seen is None or any(x.stride() != w.stride() for x in alike):
        return None
    if bucket.blocks is None:
        return (w.numel(),)
    return (seen.rows, seen.cols) if seen.slabs == 1 else None

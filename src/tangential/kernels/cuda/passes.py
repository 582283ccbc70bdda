"""The two passes over a piece, in Triton: `apply` moves rows as predicted, `repair` to where they are wanted.

A program has one piece, and walks it in tiles of `R` rows and `C` elements, whose sums stay in registers.

    here   (table of weights, their number, run, first row, rows or slice, finding, predicted view)
    kept   (factors of rows, partial sums, how many of each kind there are, findings), kept from phase to phase

Whole rows (`apply_rows`) are moved once their sums are known, as the last decision predicts, unless that could not be
undone exactly (`first_move`). Rows that several programs share (`apply_slice`) leave partial sums, and are moved by
`repair`. Offsets within
a piece are 32-bit, from 64-bit bases; every load and store is masked by the rows and elements of the run.
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# Triton compiles these functions, and gives names and numbers other types than Python does

from __future__ import annotations

import triton
import triton.language as tl

from tangential.kernels import plan
from tangential.kernels.cuda import layout
from tangential.kernels.cuda.elements import (
    PLAINLY,
    RATE,
    WHOLE,
    addresses,
    advance,
    factor,
    first_move,
    mend,
    orthogonal,
    put,
)

PLAIN, TESTED = map(tl.constexpr, (plan.PLAIN, plan.TESTED))
OWNER, TILE, MODE, OFFSET, SLABS, STRIDE, ROWS, COLS, KEEPS, SUMS, SLICES, SPAN, FOUND, FINDINGS, EVEN, RUN = map(
    tl.constexpr, range(layout.RUN + 1)
)
NOTES, STATE, DECISION = map(tl.constexpr, (layout.NOTES, layout.STATE, layout.DECISION))
CHANNEL, LAYER = tl.constexpr(1), tl.constexpr(2)


@triton.jit
def moved_by(channel, predicted, k):
    """The factor by which `apply` moved rows, 0 where they wait."""
    return first_move(tl.where(predicted == CHANNEL, channel, k[PLAINLY]), channel)


@triton.jit
def note(findings, finding, ww, gg, wg, wu, oblique, waiting):
    """One finding: sums of rows, and not 0 where some row is not orthogonal, or waits."""
    at = findings + finding * NOTES
    tl.store(at, ww)
    tl.store(at + 1, gg)
    tl.store(at + 2, wg)
    tl.store(at + 3, wu)
    tl.store(at + 4, oblique)
    tl.store(at + 5, waiting)


@triton.jit
def rows_of(here, VECTORS: tl.constexpr, T: tl.constexpr):
    """Addresses of whole rows of a run, and how long they are."""
    run, row = here[2], here[3]
    cols = tl.load(run + COLS)
    start = tl.load(run + OFFSET) + row * cols
    cols = cols.to(tl.int32)
    if VECTORS:
        cols = (cols // 16) * 16
    return addresses(here[0], here[1], tl.load(run + OWNER), start, VECTORS, T), cols


@triton.jit
def apply_rows(  # noqa: PLR0915 - one pass, whose sums stay in registers
    here, kept, k, R: tl.constexpr, C: tl.constexpr, WHOLE_ROWS: tl.constexpr, VECTORS: tl.constexpr, T: tl.constexpr
):
    """Whole rows, `R` at a time. Rows of at most `C` elements stay in registers, longer ones are read once more."""
    _, _, run, row, count, finding, predicted = here
    keeps, _, _, findings = kept
    at, cols = rows_of(here, VECTORS, T)
    tested = tl.load(run + MODE) == TESTED
    r, c = tl.arange(0, R), tl.arange(0, C)
    all_ww, all_gg, all_wg, all_wu, flags = 0.0, 0.0, 0.0, 0.0, 0  # one register for two answers
    keeps += tl.load(run + KEEPS) + row
    for i in range(0, count.to(tl.int32), R):
        there = i + r < count
        o = (i + r)[:, None] * cols + c[None, :]
        inside = there[:, None] & (c[None, :] < cols)
        p, g, u = advance(at, o, inside, k, T)
        ww, gg, wg, wu = tl.sum(p * p, 1), tl.sum(g * g, 1), tl.sum(p * g, 1), tl.sum(p * u, 1)
        if not WHOLE_ROWS:
            for j in range(C, cols, C):
                more = there[:, None] & ((j + c)[None, :] < cols)
                q, x, d = advance(at, o + j, more, k, T)
                ww += tl.sum(q * q, 1)
                gg += tl.sum(x * x, 1)
                wg += tl.sum(q * x, 1)
                wu += tl.sum(q * d, 1)
        keep = factor(ww, wu, k)
        rate = k[RATE] + 0 * keep
        if tested:
            tl.store(keeps + i + r, keep, mask=there)
            moved = moved_by(keep, predicted, k)
            flags |= tl.max(tl.where(there & (orthogonal(ww, gg, wg, cols.to(tl.float32), k) == 0), 1, 0), 0)
            flags |= tl.max(tl.where(there & (moved == 0), 2, 0), 0)
            all_ww += tl.sum(ww, 0)
            all_gg += tl.sum(gg, 0)
            all_wg += tl.sum(wg, 0)
            all_wu += tl.sum(wu, 0)
            rate = tl.where(moved == 0, 0.0, k[RATE])
            keep = tl.where(moved == 0, 1.0, moved)
        put(at, o, inside, keep[:, None] * p - rate[:, None] * u, T)
        if not WHOLE_ROWS:
            tl.debug_barrier()  # another thread may read what one wrote
            for j in range(C, cols, C):
                more = there[:, None] & ((j + c)[None, :] < cols)
                mend(at, o + j, more, keep[:, None], rate[:, None], k, T)
    if tested:
        oblique, waiting = (flags & 1).to(tl.float32), (flags & 2).to(tl.float32)
        note(findings, finding, all_ww, all_gg, all_wg, all_wu, oblique, waiting)


@triton.jit
def repair_rows(here, decision, keeps, k, R: tl.constexpr, C: tl.constexpr, VECTORS: tl.constexpr, T: tl.constexpr):
    """With `q = wanted / moved`, `wanted p - rate u` is `q (moved p - rate u) - rate (1 - q) u`; or the first move."""
    _, _, run, row, count, _, predicted = here
    at, cols = rows_of(here, VECTORS, T)
    r, c = tl.arange(0, R), tl.arange(0, C)
    keeps += tl.load(run + KEEPS) + row
    for i in range(0, count.to(tl.int32), R):
        there = i + r < count
        channel = tl.load(keeps + i + r, mask=there, other=1.0)
        moved = moved_by(channel, predicted, k)
        q = tl.div_rn(wanted(channel, decision, k), tl.where(moved == 0, 1.0, moved))
        back = tl.where(moved == 0, k[RATE], k[RATE] * (1 - q))
        for j in range(0, cols, C):
            inside = there[:, None] & ((j + c)[None, :] < cols)
            o = (i + r)[:, None] * cols + (j + c)[None, :]
            mend(at, o, inside, q[:, None], back[:, None], k, T)


@triton.jit
def wanted(channel, decision, k):
    """The factor that the decision wants on rows."""
    return tl.where(decision == CHANNEL, channel, tl.where(decision == LAYER, k[WHOLE], k[PLAINLY]))


@triton.jit
def slice_of(here, R: tl.constexpr, C: tl.constexpr, ACROSS: tl.constexpr, VECTORS: tl.constexpr, T: tl.constexpr):
    """A slice of some rows: addresses at its slab, offset into that slab, length, and indices of rows and elements.

    Where few elements of a row lie together, neighbouring threads take neighbouring rows.
    """
    table, weights, run, row, part, _, _ = here
    cols, stride, span = tl.load(run + COLS), tl.load(run + STRIDE), tl.load(run + SPAN)
    length = tl.minimum(span, tl.load(run + SLABS) * cols - part * span).to(tl.int32)
    start = tl.load(run + OFFSET) + row * cols
    if VECTORS:  # one slab
        start += part * span
        length = (length // 16) * 16
    else:
        start += (part * span // cols) * stride
    at = addresses(table, weights, tl.load(run + OWNER), start, VECTORS, T)
    r, e = tl.arange(0, R), tl.arange(0, C)
    if ACROSS:
        r, e = r[None, :], e[:, None]
    else:
        r, e = r[:, None], e[None, :]
    return at, (part * span % cols).to(tl.int32), length, r, e


@triton.jit
def place(run, skipped, r, e, VECTORS: tl.constexpr):
    """Offsets of elements `e` of rows `r` of a slice."""
    if VECTORS:
        o = e + 0 * r
    else:
        cols = tl.load(run + COLS).to(tl.int32)
        o = r * cols + (skipped + e) % cols + ((skipped + e) // cols).to(tl.int64) * tl.load(run + STRIDE)
    return o


@triton.jit
def apply_slice(
    here, kept, k, R: tl.constexpr, C: tl.constexpr, ACROSS: tl.constexpr, VECTORS: tl.constexpr, T: tl.constexpr
):
    """Moves a slice that is not projected; of others, leaves its part of the sums of its rows."""
    _, _, run, row, part, _, _ = here
    _, sums, all_sums, _ = kept
    at, skipped, length, r, e = slice_of(here, R, C, ACROSS, VECTORS, T)
    mode = tl.load(run + MODE)
    axis: tl.constexpr = 0 if ACROSS else 1
    there = row + r < tl.load(run + ROWS)
    ww = tl.zeros([R], tl.float32)
    gg, wg, wu = ww, ww, ww
    for j in range(0, length, C):
        inside = there & (j + e < length)
        o = place(run, skipped, r, j + e, VECTORS)
        p, g, u = advance(at, o, inside, k, T)
        if mode == PLAIN:
            put(at, o, inside, k[PLAINLY] * p - k[RATE] * u, T)
        else:
            ww += tl.sum(p * p, axis)
            gg += tl.sum(g * g, axis)
            wg += tl.sum(p * g, axis)
            wu += tl.sum(p * u, axis)
    if mode != PLAIN:
        i = row + tl.arange(0, R)
        rows = i < tl.load(run + ROWS)
        to = sums + tl.load(run + SUMS) + i * tl.load(run + SLICES) + part
        tl.store(to, ww, mask=rows)
        tl.store(to + all_sums, gg, mask=rows)
        tl.store(to + 2 * all_sums, wg, mask=rows)
        tl.store(to + 3 * all_sums, wu, mask=rows)


@triton.jit
def repair_slice(
    here,
    decision,
    keeps,
    k,
    R: tl.constexpr,
    C: tl.constexpr,
    ACROSS: tl.constexpr,
    VECTORS: tl.constexpr,
    T: tl.constexpr,
):
    """The move of a slice, whose rows' sums are all known now."""
    _, _, run, row, _, _, _ = here
    at, skipped, length, r, e = slice_of(here, R, C, ACROSS, VECTORS, T)
    there = row + r < tl.load(run + ROWS)
    channel = tl.load(keeps + tl.load(run + KEEPS) + row + r, mask=there, other=1.0)
    a = wanted(channel, decision, k)
    for j in range(0, length, C):
        mend(at, place(run, skipped, r, j + e, VECTORS), there & (j + e < length), a, k[RATE], k, T)

"""The phases of a step, in Triton: each is one launch for all weights.

    prepare   a program per 128 weights: counts the step, works out its numbers in float64
    apply     a program per piece: moments, sums of rows, the move that is predicted
    gather    a program per 8 rows that several pieces share: adds up their sums, finds the factors
    decide    a program per weight under the paper's test: the decision, by majority where votes are counted
    repair    a program per piece: the moves that were predicted wrong or had to wait

No phase waits for the host, takes memory, or adds up in an order that is left to chance. All of them leave everything
as it is if the gradients were found to overflow.
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Triton compiles these functions, and gives names and numbers other types than Python does

from __future__ import annotations

import triton
import triton.language as tl

from tangential.kernels.cuda import layout
from tangential.kernels.cuda.elements import NUMBERS, WHOLE, factor, numbers_of, orthogonal
from tangential.kernels.cuda.passes import (
    CHANNEL,
    COLS,
    DECISION,
    EVEN,
    FINDINGS,
    FOUND,
    KEEPS,
    LAYER,
    MODE,
    NOTES,
    OWNER,
    ROWS,
    RUN,
    SLABS,
    SLICES,
    STATE,
    SUMS,
    TESTED,
    TILE,
    apply_rows,
    apply_slice,
    note,
    repair_rows,
    repair_slice,
)

STEP, PREVIOUS, VOTES, GROUP, ALIGNED = map(
    tl.constexpr, (layout.STEP, layout.PREVIOUS, layout.VOTES, layout.GROUP, layout.ALIGNED)
)
SETTINGS, STALE, PIECE = map(tl.constexpr, (layout.SETTINGS, layout.STALE, layout.PIECE))
SHORT, MEDIUM, LONG, SLICED = map(tl.constexpr, (layout.SHORT, layout.MEDIUM, layout.LONG, layout.SLICED))


@triton.jit(do_not_specialize=["weights"], do_not_specialize_on_alignment=["found", "scale"])
def prepare(table, weights, settings, numbers, state, scale, found, ADAM: tl.constexpr, B: tl.constexpr):
    """Counts the step and works out the numbers of every weight, in float64: `1 - beta2**t` needs it."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    inside = i < weights
    s = settings + tl.load(table + GROUP * weights + i, mask=inside, other=0) * SETTINGS
    lr, decay, delta, eps = (tl.load(s + 1), tl.load(s + 2), tl.load(s + 3), tl.load(s + 4))
    ratio, b1, b2 = tl.load(s + 5), tl.load(s + 6), tl.load(s + 7)
    nesterov, sign = tl.load(s + 8), tl.load(s + 9)
    count = tl.load(table + STEP * weights + i, mask=inside, other=0).to(tl.pointer_type(tl.float32))
    t = tl.load(count, mask=inside, other=0.0) + tl.where(tl.load(found) == 0, 1.0, 0.0)
    tl.store(count, t, mask=inside)
    rate, square, first = lr, 0 * lr + 1, 1 - b2
    if ADAM:
        t = tl.maximum(t, 1.0).to(tl.float64)  # 0 where the first step is not taken
        square = tl.sqrt(1 - tl.exp(t * tl.log(b2)))
        rate = lr / (1 - tl.exp(t * tl.log(b1))) * square
        first = 1 - b1
    k = numbers + i * NUMBERS
    gradient = first if ADAM else 0 * lr + 1
    unscale = 1.0 / tl.load(scale).to(tl.float64) + 0 * lr
    fill(k, (b1, sign * first, b2, 1 - b2, tl.where(nesterov != 0, b1, 1.0), sign * nesterov * gradient), 0, inside)
    fill(k, (eps * square, rate, 1 - lr * decay, 1 - lr * (decay * ratio), eps, delta, unscale), 6, inside)
    previous = tl.load(table + PREVIOUS * weights + i, mask=inside, other=0)
    last = tl.load(previous.to(tl.pointer_type(tl.uint8)), mask=inside & (previous != 0), other=0).to(tl.int32)
    tl.store(state + i * STATE, tl.where(last == CHANNEL, CHANNEL, 0), mask=inside)
    # of blocks that are known in advance; `decide` says it of the others
    tl.store(state + i * STATE + DECISION, tl.where(inside, CHANNEL, 0), mask=inside)
    tl.store(state + i * STATE + STALE, tl.where(inside, 1, 0), mask=inside)


@triton.jit
def fill(k, values, first: tl.constexpr, inside):
    """Writes neighbouring numbers of weights."""
    for i in tl.static_range(len(values)):
        tl.store(k + first + i, values[i], mask=inside)


@triton.jit(do_not_specialize=["weights", "all_sums"], do_not_specialize_on_alignment=["found"])
def apply(
    table, weights, runs, work, numbers, state, keeps, sums, all_sums, findings, found, T: tl.constexpr
):  # fmt: skip
    """Moves every weight as the last decision predicts; leaves sums and factors of rows behind."""
    if tl.load(found) == 0:
        piece = work + tl.program_id(0).to(tl.int64) * PIECE
        run = runs + tl.load(piece) * RUN
        weight, tile = tl.load(run + OWNER), tl.load(run + TILE)
        predicted = tl.load(state + weight * STATE)
        here = (table, weights, run, tl.load(piece + 1), tl.load(piece + 2), tl.load(piece + 3), predicted)
        kept = (keeps, sums, all_sums, findings)
        k = numbers_of(numbers, weight)
        even = tl.load(run + EVEN) * tl.load(table + ALIGNED * weights + weight) != 0
        if tile < SLICED:
            apply_whole(here, kept, k, tile, even, T)
        elif tile > SLICED:
            apply_slice(here, kept, k, 32, 32, True, False, T)
        elif even:
            apply_slice(here, kept, k, 1, 4096, False, True, T)
        else:
            apply_slice(here, kept, k, 1, 2048, False, False, T)


@triton.jit
def apply_whole(here, kept, k, tile, even, T: tl.constexpr):
    """Whole rows, by their length. The sizes of the tiles leave two programs room in the registers."""
    if tile == SHORT:
        apply_rows(here, kept, k, 64, 16, True, False, T)
    elif even == 0:
        if tile == MEDIUM:
            apply_rows(here, kept, k, 8, 128, True, False, T)
        else:
            apply_rows(here, kept, k, 1, 1024, False, False, T)
    elif tile == MEDIUM:
        apply_rows(here, kept, k, 16, 128, True, True, T)
    elif tile == LONG:
        apply_rows(here, kept, k, 2, 1024, True, True, T)
    elif tl.load(here[2] + COLS) <= 4096:
        apply_rows(here, kept, k, 1, 4096, True, True, T)
    else:
        apply_rows(here, kept, k, 1, 1024, False, True, T)


@triton.jit(do_not_specialize=["all_sums"], do_not_specialize_on_alignment=["found"])
def gather(runs, work, numbers, keeps, sums, all_sums, findings, found, R: tl.constexpr, C: tl.constexpr):
    """Adds up the parts of the sums of spread rows, in their order; finds the factors of the rows."""
    if tl.load(found) == 0:
        piece = work + tl.program_id(0).to(tl.int64) * PIECE
        run = runs + tl.load(piece) * RUN
        row, finding = tl.load(piece + 1), tl.load(piece + 3)
        slices = tl.load(run + SLICES)
        k = numbers_of(numbers, tl.load(run + OWNER))
        r, c = row + tl.arange(0, R), tl.arange(0, C)
        there = r < tl.load(run + ROWS)
        ww = tl.zeros([R], tl.float64)
        gg, wg, wu = ww, ww, ww
        for j in range(0, slices.to(tl.int32), C):
            inside = there[:, None] & ((j + c)[None, :] < slices)
            at = sums + tl.load(run + SUMS) + r[:, None] * slices + (j + c)[None, :]
            ww += tl.sum(tl.load(at, mask=inside, other=0.0).to(tl.float64), 1)
            gg += tl.sum(tl.load(at + all_sums, mask=inside, other=0.0).to(tl.float64), 1)
            wg += tl.sum(tl.load(at + 2 * all_sums, mask=inside, other=0.0).to(tl.float64), 1)
            wu += tl.sum(tl.load(at + 3 * all_sums, mask=inside, other=0.0).to(tl.float64), 1)
        w2, g2, w1, u1 = ww.to(tl.float32), gg.to(tl.float32), wg.to(tl.float32), wu.to(tl.float32)
        tl.store(keeps + tl.load(run + KEEPS) + r, factor(w2, u1, k), mask=there)
        if tl.load(run + MODE) == TESTED:
            elements = (tl.load(run + SLABS) * tl.load(run + COLS)).to(tl.float32)
            oblique = tl.sum(tl.where(there & (orthogonal(w2, g2, w1, elements, k) == 0), 1.0, 0.0), 0)
            note(findings, finding, tl.sum(ww, 0), tl.sum(gg, 0), tl.sum(wg, 0), tl.sum(wu, 0), oblique, 0.0)


@triton.jit(do_not_specialize=["weights"], do_not_specialize_on_alignment=["found"])
def decide(
    table, weights, runs, tested, numbers, state, findings, found, VOTING_STEPS: tl.constexpr, B: tl.constexpr
):  # fmt: skip
    """The paper's test of one weight, from what was found; by majority where votes are counted."""
    if tl.load(found) == 0:
        run = runs + tl.load(tested + tl.program_id(0)) * RUN
        weight, count = tl.load(run + OWNER), tl.load(run + FINDINGS).to(tl.int32)
        ww = tl.zeros([B], tl.float64)
        gg, wg, wu, oblique, waiting = ww, ww, ww, ww, ww
        for j in range(0, count, B):
            i = j + tl.arange(0, B)
            at, inside = findings + (tl.load(run + FOUND) + i) * NOTES, i < count
            ww += tl.load(at, mask=inside, other=0.0).to(tl.float64)
            gg += tl.load(at + 1, mask=inside, other=0.0).to(tl.float64)
            wg += tl.load(at + 2, mask=inside, other=0.0).to(tl.float64)
            wu += tl.load(at + 3, mask=inside, other=0.0).to(tl.float64)
            oblique += tl.load(at + 4, mask=inside, other=0.0)
            waiting += tl.load(at + 5, mask=inside, other=0.0)
        k = numbers_of(numbers, weight)
        elements = (tl.load(run + SLABS) * tl.load(run + COLS) * tl.load(run + ROWS)).to(tl.float32)
        w2, g2 = tl.sum(ww, 0).to(tl.float32), tl.sum(gg, 0).to(tl.float32)
        w1, u1 = tl.sum(wg, 0).to(tl.float32), tl.sum(wu, 0).to(tl.float32)
        by_channel = tl.sum(oblique, 0) == 0
        by_layer = orthogonal(w2, g2, w1, elements, k) & (by_channel == 0)
        decision = tl.where(by_channel, CHANNEL, tl.where(by_layer, LAYER, 0))
        votes = tl.load(table + VOTES * weights + weight)
        if votes != 0:
            decision = counted(
                votes.to(tl.pointer_type(tl.int32)), decision, tl.load(table + STEP * weights + weight), VOTING_STEPS
            )
        predicted, slices = tl.load(state + weight * STATE), tl.load(run + SLICES) > 0
        stale = (decision != predicted) | (tl.sum(waiting, 0) > 0) | slices
        tl.store(numbers + weight * NUMBERS + WHOLE, factor(w2, u1, k))
        tl.store(state + weight * STATE + DECISION, decision)
        tl.store(state + weight * STATE + STALE, stale.to(tl.int32))
        previous = tl.load(table + PREVIOUS * weights + weight).to(tl.pointer_type(tl.uint8))
        tl.store(previous, decision.to(tl.uint8))


@triton.jit
def counted(votes, decision, step, VOTING_STEPS: tl.constexpr):
    """Counts a vote while there are votes; after that the majority decides."""
    t = tl.load(step.to(tl.pointer_type(tl.float32)))
    channel, layer = tl.load(votes), tl.load(votes + 1)
    if t <= VOTING_STEPS:
        tl.store(votes, channel + (decision == CHANNEL).to(tl.int32))
        tl.store(votes + 1, layer + (decision == LAYER).to(tl.int32))
    else:
        most = tl.where(2 * (channel + layer) > VOTING_STEPS, LAYER, 0)
        decision = tl.where(2 * channel > VOTING_STEPS, CHANNEL, most)
    return decision


@triton.jit(do_not_specialize=["weights"], do_not_specialize_on_alignment=["found"])
def repair(table, weights, runs, work, numbers, state, keeps, found, T: tl.constexpr):
    """Moves what was predicted wrong, and what had to wait; leaves at once where there is nothing to do."""
    piece = work + tl.program_id(0).to(tl.int64) * PIECE
    run = runs + tl.load(piece) * RUN
    weight, tile = tl.load(run + OWNER), tl.load(run + TILE)
    predicted = tl.load(state + weight * STATE)
    decision, stale = tl.load(state + weight * STATE + DECISION), tl.load(state + weight * STATE + STALE)
    if (tl.load(found) == 0) & (stale != 0):
        here = (table, weights, run, tl.load(piece + 1), tl.load(piece + 2), tl.load(piece + 3), predicted)
        k = numbers_of(numbers, weight)
        even = tl.load(run + EVEN) * tl.load(table + ALIGNED * weights + weight) != 0
        if tile == SHORT:
            repair_rows(here, decision, keeps, k, 64, 16, False, T)
        elif tile == MEDIUM:
            repair_rows(here, decision, keeps, k, 8, 128, False, T)
        elif tile > SLICED:
            repair_slice(here, decision, keeps, k, 32, 32, True, False, T)
        elif tile == SLICED:
            if even:
                repair_slice(here, decision, keeps, k, 1, 4096, False, True, T)
            else:
                repair_slice(here, decision, keeps, k, 1, 2048, False, False, T)
        elif even:
            repair_rows(here, decision, keeps, k, 2, 1024, True, T)
        else:
            repair_rows(here, decision, keeps, k, 1, 1024, False, T)

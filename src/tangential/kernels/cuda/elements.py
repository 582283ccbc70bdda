"""Arithmetic of elements and rows, in Triton: the formulas of `algorithm.py` as `c/step.c` arranges them.

`k` is the tuple of numbers of a weight at this step, `at` the addresses of its tensors (weight, gradient, moments,
remainder), and `T` what is compiled for: whether the rule is AdamP's, whether it is Nesterov's, the dtypes of weights
and moments, and whether there are remainders. Arithmetic is float32; divisions and roots are rounded correctly, as on a
CPU, since memory sets the pace.
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false
# Triton compiles these functions, and gives names and numbers other types than Python does

from __future__ import annotations

import triton
import triton.language as tl

from tangential.kernels.cuda import layout

B1, O1, B2, O2, N1, N2, EPS, RATE, PLAINLY, REDUCED, LEAST, DELTA, UNSCALE, WHOLE, NUMBERS = map(
    tl.constexpr, range(layout.NUMBERS + 1)
)
GRAD, FIRST, SECOND, REMAINDER = map(tl.constexpr, (layout.GRAD, layout.FIRST, layout.SECOND, layout.REMAINDER))
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def numbers_of(numbers, weight):
    """All numbers of a weight, in the order of `layout`."""
    k = numbers + weight * NUMBERS
    moments = (tl.load(k), tl.load(k + O1), tl.load(k + B2), tl.load(k + O2))
    direction = (tl.load(k + N1), tl.load(k + N2), tl.load(k + EPS), tl.load(k + RATE))
    factors = (tl.load(k + PLAINLY), tl.load(k + REDUCED), tl.load(k + LEAST), tl.load(k + DELTA))
    return moments + direction + factors + (tl.load(k + UNSCALE), tl.load(k + WHOLE))


@triton.jit
def addresses(table, weights, weight, start, VECTORS: tl.constexpr, T: tl.constexpr):
    """Where the tensors of a weight are, from element `start` on; in `VECTORS`, at multiples of 16 bytes."""
    p = tl.load(table + weight).to(tl.pointer_type(T[2]))
    g = tl.load(table + GRAD * weights + weight).to(tl.pointer_type(T[2]))
    m = tl.load(table + FIRST * weights + weight).to(tl.pointer_type(T[3]))
    v = tl.load(table + SECOND * weights + weight).to(tl.pointer_type(T[3]))
    low = tl.load(table + REMAINDER * weights + weight).to(tl.pointer_type(tl.int16))  # 0 where there is none
    if VECTORS:
        p, g = tl.multiple_of(p, 16), tl.multiple_of(g, 16)
        m, v = tl.multiple_of(m, 16), tl.multiple_of(v, 16)
        low = tl.multiple_of(low, 16)
        start = (start // 16) * 16
    return p + start, g + start, m + start, v + start, low + start


@triton.jit
def direction(g, m, v, k, T: tl.constexpr):
    """From the moments that `advance` wrote."""
    u = m
    if T[1]:
        u = k[N1] * m + k[N2] * g
    if T[0]:
        u = tl.div_rn(u, tl.sqrt_rn(v) + k[EPS])
    return u


@triton.jit
def advance(at, o, inside, k, T: tl.constexpr):
    """Writes the moments; gives weight, gradient and direction, 0 outside."""
    p = get(at, o, inside, T)
    g = tl.load(at[1] + o, mask=inside, other=0.0).to(tl.float32) * k[UNSCALE]
    m = k[B1] * tl.load(at[2] + o, mask=inside, other=0.0).to(tl.float32) + k[O1] * g
    m = m.to(at[2].dtype.element_ty)
    tl.store(at[2] + o, m, mask=inside)
    v = m
    if T[0]:
        v = k[B2] * tl.load(at[3] + o, mask=inside, other=0.0).to(tl.float32) + k[O2] * (g * g)
        v = v.to(at[3].dtype.element_ty)
        tl.store(at[3] + o, v, mask=inside)
    u = direction(g, m.to(tl.float32), v.to(tl.float32), k, T)
    return p, g, tl.where(inside, u, 0.0)


@triton.jit
def mend(at, o, inside, a, b, k, T: tl.constexpr):
    """`p <- a p - b u`, with u from the moments that `advance` wrote."""
    p = get(at, o, inside, T)
    m = tl.load(at[2] + o, mask=inside, other=0.0).to(tl.float32)
    g = m
    if T[1]:
        g = tl.load(at[1] + o, mask=inside, other=0.0).to(tl.float32) * k[UNSCALE]
    v = m
    if T[0]:
        v = tl.load(at[3] + o, mask=inside, other=1.0).to(tl.float32)
    put(at, o, inside, a * p - b * direction(g, m, v, k, T), T)


@triton.jit
def get(at, o, inside, T: tl.constexpr):
    """Weights, with their remainders; 0 outside. See `c/storage.h`."""
    found = tl.load(at[0] + o, mask=inside, other=0.0)
    p = found.to(tl.float32)
    if T[4]:
        low = tl.load(at[4] + o, mask=inside, other=0).to(tl.int32)
        upper = found.to(tl.int16, bitcast=True).to(tl.int32)
        if T[2] == tl.bfloat16:
            size = upper & 0x7FFF
            foreign = ((size == 0) & (low < 0)) | ((size == 0x7F80) & (low > 0))
            p = ((upper << 16) + tl.where(foreign, 0, low)).to(tl.float32, bitcast=True)
        else:
            p += tl.where((upper & 0x7C00) == 0x7C00, 0, low).to(tl.float32) * unit(upper)
    return p


@triton.jit
def put(at, o, inside, p, T: tl.constexpr):
    """Writes weights, and their remainders."""
    w = p.to(at[0].dtype.element_ty)
    if T[4]:
        nan = p != p
        if T[2] == tl.bfloat16:
            bits = p.to(tl.int32, bitcast=True)
            upper = ((bits + 0x8000) >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
            w = tl.where(nan, w, upper)
            low = tl.where(nan, 0, bits).to(tl.int16)
        else:
            upper = w.to(tl.int16, bitcast=True).to(tl.int32)
            rest = tl.where((upper & 0x7C00) == 0x7C00, 0.0, (p - w.to(tl.float32)) / unit(upper))
            # to the nearest integer, by adding 1.5 * 2^23 in a register of integers
            whole = (tl.clamp(rest, -32768.0, 32767.0) + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000
            low = whole.to(tl.int16)
        tl.store(at[4] + o, low, mask=inside)
    tl.store(at[0] + o, w, mask=inside)


@triton.jit
def unit(bits):
    """2^-16 of the distance from float16 numbers, given as bits, to the next ones away from zero."""
    exponent = tl.minimum(tl.maximum((bits >> 10) & 0x1F, 1), 30)
    return ((exponent - 41 + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def factor(ww, wu, k):
    """The factor of line 9 on projected rows; a row of no length, or whose length overflowed, has no radial part."""
    has_length = (ww > 0) & (ww < INFINITY)
    length = tl.sqrt_rn(tl.where(has_length, ww, 1.0)) + k[LEAST]
    return k[REDUCED] + k[RATE] * tl.where(has_length, tl.div_rn(tl.div_rn(wu, length), length), 0.0)


@triton.jit
def orthogonal(ww, gg, wg, elements, k):
    """Whether the cosine is below its bound. Sums that overflowed say nothing of the angle."""
    of_w, of_g = tl.maximum(tl.sqrt_rn(ww), k[LEAST]), tl.maximum(tl.sqrt_rn(gg), k[LEAST])
    # not by the product of the lengths, which could leave float32
    below = tl.div_rn(tl.abs(wg), of_w) < tl.div_rn(k[DELTA], tl.sqrt_rn(elements)) * of_g
    return (ww < INFINITY) & (gg < INFINITY) & below


@triton.jit
def first_move(used, channel):
    """The factor that a row is moved by before the decision, or 0 if it waits: see `first_move` in `c/step.c`.

    0 where the factor could not be divided out again, or where the step is longer than the row. False for NaN.
    """
    exact = (tl.abs(used) >= 0.25) & (tl.abs(used) <= 2.0) & (tl.abs(channel) <= 2.0)
    return tl.where(exact, used, 0.0)

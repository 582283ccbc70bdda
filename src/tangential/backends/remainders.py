"""Half-precision weights and what rounding takes from them: kept beside the weight, or rounded at random.

A step of bfloat16 weights is lost where it is shorter than half the distance to the next number, 0.2 to 0.4 % of the
weight. The *master* is the float32 weight that arithmetic sees; a half-precision weight is its rounding, and the
`remainder` is the rest in units so small that 16 bits hold it:

    bfloat16   the lower 16 bits of the master, as a signed number: nothing is lost
    float16    2^-16 of the distance between neighbouring float16 numbers: nothing is lost from 6.1e-5 up, and below
               the master is a multiple of 2^-40

This is Kahan's compensated sum with an exact compensation. The master always rounds to the weight: a remainder that is
out of date, because somebody wrote to the weight, is worth less than that rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tangential.backends.dtensor import is_dtensor
from tangential.backends.opmath import HALF

REMAINDER = "remainder"
"""Key of the state that holds what a half-precision weight is short of its master, in the weight's shape, int16."""

_TIE = 1 << 15
"""Half of the lower 16 bits' range."""
_INFINITE = 0x7F80
"""The upper 16 bits of float32's infinity; above are NaNs."""


def compensates(dtype: torch.dtype, compensation: str | None) -> bool:
    """Whether weights of this dtype have a remainder under this setting of a group.

    Examples:
        >>> compensates(torch.bfloat16, "auto"), compensates(torch.float16, "auto"), compensates(torch.float32, "kahan")
        (True, False, False)
    """
    return dtype == torch.bfloat16 if compensation == "auto" else compensation == "kahan" and dtype in HALF


def has_remainder(p: Any, compensation: str | None) -> bool:
    """Whether a parameter has one under this setting of a group.

    "auto" leaves DTensors alone: neither NCCL nor gloo gathers 16-bit integers, as a full state dict would have to be.
    """
    return compensates(p.dtype, compensation) and not (compensation == "auto" and is_dtensor(p))


def rounds_at_random(dtype: torch.dtype, compensation: str | None) -> bool:
    """Whether weights of this dtype are rounded at random under this setting of a group."""
    return compensation == "stochastic" and dtype in HALF


def master(w: Tensor, remainder: Tensor) -> Tensor:
    """The float32 weight. Zeros, infinities and NaNs whose remainder belongs to another weight stay what they are.

    Args:
        w: bfloat16 or float16, any shape.
        remainder: int16, the same shape.

    Examples:
        >>> w, remainder = torch.empty(1, dtype=torch.bfloat16), torch.empty(1, dtype=torch.int16)
        >>> write(torch.tensor([0.1]), w, remainder)
        >>> w, master(w, remainder)
        (tensor([0.1001], dtype=torch.bfloat16), tensor([0.1000]))
    """
    if w.dtype == torch.float16:
        return w.float() + torch.where(w.isfinite(), remainder, 0) * _unit(w)
    upper = w.view(torch.int16)
    size = upper & 0x7FFF
    foreign = ((size == 0) & (remainder < 0)) | ((size == _INFINITE) & (remainder > 0))
    return ((upper.int() << 16) + torch.where(foreign, 0, remainder)).view(torch.float32)


def write(x: Tensor, w: Tensor, remainder: Tensor) -> None:
    """Write a master into a weight and its remainder.

    Args:
        x: float32.
        w: bfloat16 or float16, the same shape; rounded to nearest, bfloat16's ties away from zero.
        remainder: int16, the same shape.
    """
    if w.dtype == torch.float16:
        w.copy_(x)
        rest = ((x - w.float()) / _unit(w)).round_().clamp_(-_TIE, _TIE - 1)
        remainder.copy_(torch.where(w.isfinite(), rest, 0))
        return
    bits = x.view(torch.int32)
    remainder.copy_(torch.where(x.isnan(), 0, bits.short()))
    w.copy_(torch.where(x.isnan(), x.bfloat16(), ((bits + _TIE) >> 16).short().view(torch.bfloat16)))


def write_stochastic(x: Tensor, w: Tensor, t: float | Tensor) -> None:
    """Round to either neighbour, with such a chance that the mean over steps is exact (stochastic rounding).

    The chance comes from a hash of the element's index and the step count. So a resumed run repeats what the first one
    did, and the copies of a weight under data parallelism stay equal.

    Args:
        x: float32.
        w: bfloat16 or float16, the same shape.
        t: The step count.
    """
    noise = _noise(x, t)
    if w.dtype == torch.float16:
        exponent = ((x.view(torch.int32) >> 23) & 0xFF).clamp_(113, 142)  # of normal float16 numbers
        distance = ((exponent - 10) << 23).view(torch.float32)
        chosen = (x / distance + noise * 2.0**-16).floor_() * distance
        greatest = torch.finfo(w.dtype).max
        w.copy_(torch.where(x.half().isfinite(), chosen.clamp_(-greatest, greatest), x))
        return
    upper = ((x.view(torch.int32) + noise) >> 16).short().view(torch.bfloat16)
    w.copy_(torch.where(x.isfinite(), upper, x.bfloat16()))


def _noise(like: Tensor, t: float | Tensor) -> Tensor:
    """Numbers in [0, 2^16) that depend on the element and the step; int32, the shape of `like`."""
    step = t.to(like.device, torch.int32) if isinstance(t, Tensor) else torch.tensor(int(t), dtype=torch.int32)
    at = torch.arange(like.numel(), dtype=torch.int32, device=like.device)
    mixed = at + step.to(like.device) * -1640531535  # integers wrap; an odd number spreads steps over all of them
    for shift, factor in ((16, 2146121005), (15, -2073254261)):
        mixed = (mixed ^ ((mixed >> shift) & (0xFFFFFFFF >> shift))) * factor
    return ((mixed >> 16) & 0xFFFF).view(like.shape)


def _unit(w: Tensor) -> Tensor:
    """2^-16 of the distance from a float16 number to the next one away from zero, float32."""
    exponent = ((w.view(torch.int16).int() >> 10) & 0x1F).clamp_(1, 30)
    return ((exponent - 41 + 127) << 23).view(torch.float32)

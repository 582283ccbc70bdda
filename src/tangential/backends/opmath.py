"""Opmath dtypes: half-precision weights are stepped in float32, and their moments are float32."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def opmath_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that arithmetic and moments of such a weight have.

    Examples:
        >>> opmath_dtype(torch.bfloat16), opmath_dtype(torch.float64), opmath_dtype(torch.complex64)
        (torch.float32, torch.float64, torch.complex64)
    """
    return torch.promote_types(dtype, torch.float32)


def to_opmath(x: Tensor) -> Tensor:
    """The tensor itself, or its float32 copy if it is in half precision."""
    return x.float() if x.dtype in HALF else x

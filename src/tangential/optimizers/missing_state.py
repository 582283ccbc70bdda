"""State of parameters that have none yet, or not all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tangential.backends import REMAINDER, VOTES, has_remainder
from tangential.backends.opmath import opmath_dtype
from tangential.optimizers.entries import check_votes


def add_missing(own: dict[str, Any], p: Tensor, group: dict[str, Any], moments: Sequence[str]) -> None:
    """Add the state entries that a parameter lacks; moments of a DTensor are spread over ranks like it.

    Args:
        own: The parameter's state.
        p: The parameter.
        group: Its group.
        moments: Keys of the moments.
    """
    is_new = not own
    if is_new:
        device = p.device if group["capturable"] else "cpu"
        own["step"] = torch.zeros((), dtype=torch.float32, device=device)
        for name in moments:
            own[name] = torch.zeros_like(p, dtype=opmath_dtype(p.dtype), memory_format=torch.preserve_format)
    if has_remainder(p, group["compensation"]) and REMAINDER not in own:
        own[REMAINDER] = torch.zeros_like(p, dtype=torch.int16, memory_format=torch.preserve_format)
    if group["blocks"] == "sticky" and VOTES not in own:
        if not is_new:  # reading a step count may wait for the device
            check_votes(p, own, group, float(own["step"]), f"weight of shape {tuple(p.shape)}")
        own[VOTES] = torch.zeros(2, dtype=torch.int32, device=p.device)

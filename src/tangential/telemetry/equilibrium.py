"""How far a weight will turn per step once decay and growth are even, for the optimizers there is a formula for."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from tangential.optimizers import SGDP, AdamP
from tangential.optimizers.base import Projected
from tangential.telemetry.rotation import adamw_rotation, projected_rotation, sgd_rotation


def equilibrium_angle(optimizer: Optimizer, group: dict[str, Any], *, lr: float, projected: bool) -> float | None:
    """The predicted rotation of a scale-invariant weight, in radians per step, root mean square (arXiv 2305.17212).

    Args:
        optimizer: AdamW, SGD with coupled decay, or ours.
        group: The parameter group.
        lr: Its learning rate as a number.
        projected: Whether the step is projected.

    Returns:
        The angle, or None for other optimizers, without weight decay, or with Nesterov momentum, dampening, amsgrad or
        settings that are tensors, which the formulas are not for.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2, 2))
        >>> optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.1)
        >>> round(equilibrium_angle(optimizer, optimizer.param_groups[0], lr=1e-3, projected=False), 6)
        0.003244
    """
    decay = group.get("weight_decay")
    if not isinstance(decay, (int, float)) or decay <= 0 or lr <= 0:
        return None
    if isinstance(optimizer, Projected) and projected:
        own = decay / (1 - group["momentum"]) if isinstance(optimizer, SGDP) else decay
        keep = 1 - lr * own * group["wd_ratio"]
        return projected_rotation(keep) if 0 < keep < 1 else None
    if group.get("nesterov") or group.get("dampening") or group.get("amsgrad"):
        return None
    if _is_adamw(optimizer, group):
        beta1 = group["betas"][0]
        return adamw_rotation(lr=lr, decay=decay, beta1=beta1) if isinstance(beta1, (int, float)) else None
    # SGDP divides its decoupled decay by 1 - momentum, which turns a weight as coupled decay does
    if isinstance(optimizer, (torch.optim.SGD, SGDP)) and isinstance(group["momentum"], (int, float)):
        return sgd_rotation(lr=lr, decay=decay, momentum=group["momentum"])
    return None


def _is_adamw(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    decoupled = isinstance(optimizer, torch.optim.Adam) and group.get("decoupled_weight_decay", False)
    return isinstance(optimizer, (torch.optim.AdamW, AdamP)) or decoupled

"""Rotational equilibrium: the angle per step that a weight settles at once weight decay and growth are even.

Weight decay shrinks a scale-invariant weight and its steps make it longer. Where both are even, the norm is settled and
the angle per step depends on the settings alone: `sgd_rotation` and `adamw_rotation` are formulas of arXiv 2305.17212,
`projected_rotation` is derived here, and `equilibrium_angle` chooses one of them for a parameter group.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer

from tangential.optimizers import SGDP, AdamP
from tangential.optimizers.base import Projected


def sgd_rotation(*, lr: float, decay: float, momentum: float) -> float:
    """Equilibrium angle per step of SGD with coupled L2 decay (arXiv 2305.17212).

    An expectation, for gradients that are noise: independent from step to step and as long as ever, in many dimensions,
    at `lr * decay` much below one, after the norm has settled.

    Args:
        lr: Learning rate.
        decay: Weight decay, added to the gradient.
        momentum: Momentum.

    Returns:
        Radians per step, root mean square.

    Examples:
        >>> round(sgd_rotation(lr=0.1, decay=5e-4, momentum=0.9), 6)
        0.007255
    """
    return math.sqrt(2 * lr * decay / (1 + momentum))


def adamw_rotation(*, lr: float, decay: float, beta1: float) -> float:
    """Equilibrium angle per step of AdamW (arXiv 2305.17212); it does not depend on the gradients.

    Args:
        lr: Learning rate.
        decay: Decoupled weight decay.
        beta1: Decay rate of the first moment.

    Returns:
        Radians per step, root mean square.

    Examples:
        >>> round(adamw_rotation(lr=1e-3, decay=0.1, beta1=0.9), 6)
        0.003244
    """
    return math.sqrt(2 * lr * decay * (1 - beta1) / (1 + beta1))


def projected_rotation(keep: float) -> float:
    """Equilibrium angle per step of SGDP and AdamP: `tan^2 = 1/keep^2 - 1`; it needs no assumption about the gradients.

    The norm follows `|w_{t+1}|^2 = keep^2 |w_t|^2 + lr^2 |q|^2`. Once it is settled, `lr^2 |q|^2 = (1 - keep^2) |w|^2`,
    and the step that leads there is orthogonal to the decayed weight. Not in the paper; derived here.

    Args:
        keep: What decay leaves of the weight at each step: `1 - lr * weight_decay * wd_ratio` for AdamP, with
            `weight_decay / (1 - momentum)` for SGDP.

    Returns:
        Radians per step, root mean square.

    Examples:
        >>> round(projected_rotation(1 - 1e-3), 4)
        0.0447
    """
    return math.atan(math.sqrt(1 / keep**2 - 1))


def equilibrium_angle(optimizer: Optimizer, group: dict[str, Any], *, lr: float, projected: bool) -> float | None:
    """Predicted rotation of a scale-invariant weight, in radians per step, root mean square (arXiv 2305.17212).

    Args:
        optimizer: AdamW, SGD with coupled decay, or ours.
        group: The parameter group.
        lr: Its learning rate as a number.
        projected: Whether the step is projected.

    Returns:
        The angle, or None for other optimizers, without weight decay, or with Nesterov momentum, dampening, amsgrad or
        settings that are tensors, for which there is no formula.

    Examples:
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

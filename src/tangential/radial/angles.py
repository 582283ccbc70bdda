"""The angle that rotational equilibrium predicts for a base optimizer (arXiv 2305.17212)."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from tangential.telemetry.equilibrium import equilibrium_angle


def lion_rotation(*, lr: float, decay: float, betas: tuple[float, float]) -> float:
    """Equilibrium angle per step of Lion (arXiv 2305.17212, table 1).

    Args:
        lr: Learning rate.
        decay: Decoupled weight decay.
        betas: The two decay rates of Lion.

    Returns:
        Radians per step, root mean square.

    Examples:
        >>> round(lion_rotation(lr=1e-4, decay=1.0, betas=(0.9, 0.99)), 6)
        0.002102
    """
    b1, b2 = betas
    return math.sqrt(math.pi * lr * decay) * math.sqrt((1 - b1) ** 2 + b1**2 * (1 - b2) / (1 + b2))


def predicted_angle(base: Optimizer, group: dict[str, Any]) -> float | None:
    """Radians per step for AdamW, SGD with coupled decay and Lion; None for other bases and without weight decay.

    At a learning rate of 0 the angle is 0.

    Args:
        base: The optimizer.
        group: One of its groups; settings that are tensors are read.
    """
    lr, decay = float(group["lr"]), float(group.get("weight_decay") or 0.0)
    if decay <= 0:
        return None
    if type(base).__name__ == "Lion":
        return lion_rotation(lr=lr, decay=decay, betas=group["betas"])
    found = equilibrium_angle(base, {**group, "weight_decay": decay}, lr=lr or 1.0, projected=False)
    return found if lr or found is None else 0.0

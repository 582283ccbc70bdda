"""Learning rate schedules: functions of an optimizer and the number of steps of a run."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, steps: int, *, end: float = 0.01) -> LambdaLR:
    """Let the learning rate fall along half a cosine, from what the optimizer has to a share of it.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        end: The share that is left after the last step, from 0 to 1; 1 keeps the learning rate constant.

    Raises:
        ValueError: A share outside 0 to 1.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> schedule = cosine(optimizer, 2, end=0.5)
        >>> for _ in range(2):
        ...     optimizer.step()
        ...     schedule.step()
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.05
    """
    if not 0 <= end <= 1:
        raise ValueError(f"schedule: end={end} is a share of the learning rate; it must be from 0 to 1")
    return LambdaLR(optimizer, lambda step: end + (1 - end) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2)


def drops(optimizer: Optimizer, steps: int, *, at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1) -> LambdaLR:
    """Let the learning rate drop by a factor at certain moments of the run.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        at: When, as shares of the run, from 0 to 1.
        factor: What is left after each drop, as a share of what was before.

    Raises:
        ValueError: A share or a factor outside 0 to 1.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> schedule = drops(optimizer, 4)
        >>> for _ in range(4):
        ...     print(f"{optimizer.param_groups[0]['lr']:.2f}")
        ...     optimizer.step()
        ...     schedule.step()
        1.00
        1.00
        0.10
        0.01
    """
    if not all(0 <= share <= 1 for share in (*at, factor)):
        raise ValueError(f"schedule: at={at}, factor={factor} must be from 0 to 1")
    return LambdaLR(optimizer, lambda step: factor ** sum(step >= share * steps for share in at))

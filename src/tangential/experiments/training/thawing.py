"""The schedule of fine-tuning: new layers learn alone at first, and the learning rate falls in equal steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def thawing(
    optimizer: Optimizer, steps: int, *, frozen: float = 0.0, every: float = 0.25, factor: float = 0.5
) -> LambdaLR:
    """Multiply the learning rate by a factor at equal intervals, and keep pretrained weights still at first.

    Still means a learning rate of zero for the parameter groups that are marked `pretrained`; their moments are
    gathered meanwhile.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        frozen: For which share of the run they are kept still.
        every: The interval, as a share of the run: 1/6 for every tenth of 60 epochs.
        factor: What is left after each interval, as a share of what was before.

    Raises:
        ValueError: A share outside 0 to 1, or no interval.

    Example:
        >>> import torch
        >>> groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "pretrained": True}]
        >>> optimizer = torch.optim.SGD(groups, lr=1.0)
        >>> schedule = thawing(optimizer, 4, frozen=0.25, every=0.5)
        >>> for _ in range(4):
        ...     print([group["lr"] for group in optimizer.param_groups])
        ...     optimizer.step()
        ...     schedule.step()
        [1.0, 0.0]
        [1.0, 1.0]
        [0.5, 0.5]
        [0.5, 0.5]
    """
    if not (0 <= frozen <= 1 and 0 < every <= 1 and 0 <= factor <= 1):
        raise ValueError(f"schedule: frozen={frozen}, every={every}, factor={factor} must be from 0 to 1, every not 0")

    def falling(step: int) -> float:
        # a twelfth of 60 epochs is a whole number of steps, but not in binary
        return factor ** math.floor(step / (every * steps) + 1e-9)

    def held(step: int) -> float:
        return 0.0 if step < round(frozen * steps) else falling(step)

    return LambdaLR(optimizer, [held if group.get("pretrained") else falling for group in optimizer.param_groups])

"""Learning rate schedules: functions of an optimizer and the number of steps of a run, over torch's `LambdaLR`.

    cosine      half a cosine, down to a share of the learning rate
    linear      a straight line
    constant    no decay
    multistep   drops by a factor at given points
    step_decay  drops by a factor at equal intervals, with pretrained weights frozen at first

The first four begin with a linear warm-up over a share of the run, none by default. All times are shares of the run, so
that a schedule does not depend on batch size and epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, steps: int, *, end: float = 0.01, warmup: float = 0.0) -> LambdaLR:
    """Cosine decay: the learning rate falls along half a cosine, from what the optimizer has to a share of it.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        end: The share that is left after the last step, from 0 to 1; 1 keeps the learning rate constant.
        warmup: The share of the run in which it rises to its full value first.

    Raises:
        ValueError: A share outside 0 to 1.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> schedule = cosine(optimizer, 2, end=0.5)
        >>> for _ in range(2):
        ...     optimizer.step()
        ...     schedule.step()
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.05
    """
    _check_share("end", end)
    return _scheduled(optimizer, steps, warmup, lambda done: end + (1 - end) * (1 + math.cos(math.pi * done)) / 2)


def linear(optimizer: Optimizer, steps: int, *, end: float = 0.0, warmup: float = 0.0) -> LambdaLR:
    """Linear decay: the learning rate falls in a straight line; see `cosine` for the arguments.

    Raises:
        ValueError: A share outside 0 to 1.

    Examples:
        >>> import torch
        >>> schedule = linear(torch.optim.SGD([torch.zeros(1)], lr=0.1), 4, warmup=0.5)
        >>> schedule.get_last_lr()
        [0.05]
    """
    _check_share("end", end)
    return _scheduled(optimizer, steps, warmup, lambda done: 1 - (1 - end) * done)


def constant(optimizer: Optimizer, steps: int, *, warmup: float = 0.0) -> LambdaLR:
    """Constant learning rate; see `cosine` for the arguments.

    Raises:
        ValueError: A share outside 0 to 1.

    Examples:
        >>> import torch
        >>> constant(torch.optim.SGD([torch.zeros(1)], lr=0.1), 4).get_last_lr()
        [0.1]
    """
    return _scheduled(optimizer, steps, warmup, lambda done: 1.0)


def multistep(
    optimizer: Optimizer, steps: int, *, at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1, warmup: float = 0.0
) -> LambdaLR:
    """Multistep decay: the learning rate drops by a factor at some points of the run.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        at: The points, as shares of the run: epochs 30 and 60 of 90 are a third and two thirds.
        factor: What is left after each drop, as a share of what was before.
        warmup: The share of the run in which it rises to its full value first.

    Raises:
        ValueError: A share outside 0 to 1.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> schedule = multistep(optimizer, 4, at=(0.5,), factor=0.1)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [1.0, 1.0, 0.1, 0.1]
    """
    _check_share("factor", factor)
    for share in at:
        _check_share("at", share)
    # in whole steps, for thirds of a run are not exact in binary
    return _scheduled(
        optimizer,
        steps,
        warmup,
        lambda done: factor ** sum(round(done * steps) >= round(a * steps) for a in at),
        after_warmup=False,
    )


def step_decay(
    optimizer: Optimizer, steps: int, *, frozen: float = 0.0, every: float = 0.25, factor: float = 0.5
) -> LambdaLR:
    """Step decay: the learning rate multiplied by a factor at equal intervals, for fine-tuning.

    Pretrained weights may be frozen at first, while new layers learn: their learning rate is zero, and their moments
    are gathered meanwhile. Those are the parameter groups with a true key `pretrained`.

    Args:
        optimizer: Its learning rates are where the schedule starts.
        steps: Steps of the whole run.
        frozen: For which share of the run pretrained weights are frozen.
        every: The interval, as a share of the run: 1/6 for every tenth of 60 epochs.
        factor: What is left after each interval, as a share of what was before.

    Raises:
        ValueError: A share outside 0 to 1, or no interval.

    Examples:
        >>> import torch
        >>> groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "pretrained": True}]
        >>> optimizer = torch.optim.SGD(groups, lr=1.0)
        >>> schedule = step_decay(optimizer, 4, frozen=0.25, every=0.5)
        >>> for _ in range(4):
        ...     print([group["lr"] for group in optimizer.param_groups])
        ...     optimizer.step()
        ...     schedule.step()
        [1.0, 0.0]
        [1.0, 1.0]
        [0.5, 0.5]
        [0.5, 0.5]
    """
    for name, value in {"frozen": frozen, "every": every, "factor": factor}.items():
        _check_share(name, value)
    if every == 0:
        raise ValueError("schedule: every=0 is no interval; it must be more than 0, at most 1")

    def falling(step: int) -> float:
        # a twelfth of 60 epochs is a whole number of steps, but not in binary
        return factor ** math.floor(step / (every * steps) + 1e-9)

    def held(step: int) -> float:
        return 0.0 if step < round(frozen * steps) else falling(step)

    return LambdaLR(optimizer, [held if group.get("pretrained") else falling for group in optimizer.param_groups])


def _scheduled(
    optimizer: Optimizer, steps: int, warmup: float, share: Callable[[float], float], *, after_warmup: bool = True
) -> LambdaLR:
    """A warm-up, then a function of how much of the run, or of the rest of it, is done."""
    _check_share("warmup", warmup)
    rise = round(warmup * steps)
    start = rise if after_warmup else 0

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return share(min((step - start) / max(steps - start, 1), 1.0))

    return LambdaLR(optimizer, factor)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"schedule: {name}={value} is a share; it must be from 0 to 1")

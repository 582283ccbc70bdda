"""How far a step turns a weight, in expectation, once weight decay and growth are even: rotational equilibrium."""

from __future__ import annotations

import math


def sgd_rotation(*, lr: float, decay: float, momentum: float) -> float:
    """How far SGD with coupled L2 turns a weight per step once decay and growth are even (arXiv 2305.17212).

    An expectation, for gradients that are noise: independent from step to step and as long as ever, in many dimensions,
    at `lr * decay` much below one, after the norm has settled.

    Args:
        lr: Learning rate.
        decay: Weight decay, added to the gradient.
        momentum: Momentum.

    Returns:
        Radians per step, root mean square.

    Example:
        >>> round(sgd_rotation(lr=0.1, decay=5e-4, momentum=0.9), 6)
        0.007255
    """
    return math.sqrt(2 * lr * decay / (1 + momentum))


def adamw_rotation(*, lr: float, decay: float, beta1: float) -> float:
    """The same for AdamW (arXiv 2305.17212); it does not depend on the gradients.

    Args:
        lr: Learning rate.
        decay: Decoupled weight decay.
        beta1: Decay rate of the first moment.

    Returns:
        Radians per step, root mean square.

    Example:
        >>> round(adamw_rotation(lr=1e-3, decay=0.1, beta1=0.9), 6)
        0.003244
    """
    return math.sqrt(2 * lr * decay * (1 - beta1) / (1 + beta1))


def projected_rotation(keep: float) -> float:
    """The same for SGDP and AdamP: `tan^2 = 1/keep^2 - 1`, which needs a settled norm and nothing of the gradients.

    The norm follows `|w_{t+1}|^2 = keep^2 |w_t|^2 + lr^2 |q|^2`. Once it is settled, `lr^2 |q|^2 = (1 - keep^2) |w|^2`,
    and the step that leads there is orthogonal to the decayed weight. Not in the paper; derived here.

    Args:
        keep: What decay leaves of the weight at each step: `1 - lr * weight_decay * wd_ratio` for AdamP, with
            `weight_decay / (1 - momentum)` for SGDP.

    Returns:
        Radians per step, root mean square.

    Example:
        >>> round(projected_rotation(1 - 1e-3), 4)
        0.0447
    """
    return math.atan(math.sqrt(1 / keep**2 - 1))

"""Predictions of the statements: squared weight norms and angles, from the updates that were taken.

The norm laws all read `(steps, blocks)` sums of the updates and give `|w_t|^2` for t = 0 ... steps, `(steps + 1,
blocks)`. Lemmas 2.1 and 2.2 and Corollary 2.3 are those of arXiv 2006.08217; the other norm laws follow from the same
argument: if the loss does not depend on the length of `w`, its gradient is orthogonal to `w`, and

    w_t.p_t = beta w_t.p_{t-1} = beta (w_{t-1}.p_{t-1} - lr |p_{t-1}|^2).

    w   weight        p      momentum buffer, p_t = beta p_{t-1} + g_t
    u   any update    b, d   Nesterov's buffer, and its update g + beta b
    q   projected     keep   1 - lr times the decoupled decay
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_descent(start: Tensor, gg: Tensor, *, lr: float) -> Tensor:
    """Lemma 2.1: `|w_{t+1}|^2 = |w_t|^2 + lr^2 |g_t|^2`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        gg: `|g_t|^2`, `(steps, blocks)`.
        lr: Learning rate.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> gradient_descent(torch.ones(1), torch.tensor([[1.0], [4.0]]), lr=1.0).flatten().tolist()
        [1.0, 2.0, 6.0]
    """
    return momentum(start, gg, lr=lr, beta=0.0)


def momentum(start: Tensor, pp: Tensor, *, lr: float, beta: float) -> Tensor:
    """Lemma 2.2: `|w_{t+1}|^2 = |w_t|^2 + lr^2 |p_t|^2 + 2 lr^2 sum_{k<t} beta^(t-k) |p_k|^2`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        pp: `|p_t|^2`, `(steps, blocks)`.
        lr: Learning rate.
        beta: Momentum.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> momentum(torch.ones(1), torch.tensor([[1.0], [4.0]]), lr=1.0, beta=0.5).flatten().tolist()
        [1.0, 2.0, 7.0]
    """
    return decoupled_decay(start, pp, lr=lr, beta=beta, keep=1.0)


def decoupled_decay(start: Tensor, pp: Tensor, *, lr: float, beta: float, keep: float) -> Tensor:
    """With `w <- keep w - lr p`: `|w_{t+1}|^2 = keep^2 |w_t|^2 + lr^2 |p_t|^2 + 2 lr^2 sum (beta keep)^(t-k) |p_k|^2`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        pp: `|p_t|^2`, `(steps, blocks)`.
        lr: Learning rate.
        beta: Momentum.
        keep: What decay leaves of the weight at each step.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> decoupled_decay(torch.ones(1), torch.tensor([[1.0]]), lr=1.0, beta=0.5, keep=0.5).flatten().tolist()
        [1.0, 1.25]
    """
    norms, memory = [start], torch.zeros_like(start)
    for now in pp:
        norms.append(keep**2 * norms[-1] + lr**2 * (now + 2 * memory))
        memory = beta * keep * (memory + now)
    return torch.stack(norms)


def nesterov(start: Tensor, dd: Tensor, db: Tensor, *, lr: float, beta: float) -> Tensor:
    """Nesterov momentum: `|w_{t+1}|^2 = |w_t|^2 + lr^2 |d_t|^2 + 2 lr^2 sum_{k<t} beta^(t-k+1) d_k.b_k`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        dd: `|d_t|^2`, `(steps, blocks)`.
        db: `d_t.b_t`, `(steps, blocks)`.
        lr: Learning rate.
        beta: Momentum.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> ones = torch.ones(2, 1)
        >>> nesterov(ones[0], ones, ones, lr=1.0, beta=0.5).flatten().tolist()
        [1.0, 2.0, 3.5]
    """
    norms, memory = [start], torch.zeros_like(start)
    for now, cross in zip(dd, db, strict=True):
        norms.append(norms[-1] + lr**2 * (now + 2 * beta * memory))
        memory = beta * (memory + cross)
    return torch.stack(norms)


def coupled_decay(start: Tensor, pp: Tensor, *, lr: float, beta: float, decay: float) -> Tensor:
    """L2 in the gradient: `|w_{t+1}|^2 = |w_t|^2 - 2 lr c_t + lr^2 |p_t|^2`, where `c_t` is `w_t.p_t`.

    `c_t = beta c_{t-1} - lr beta |p_{t-1}|^2 + decay |w_t|^2`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        pp: `|p_t|^2`, `(steps, blocks)`.
        lr: Learning rate.
        beta: Momentum.
        decay: Weight decay, added to the gradient.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> coupled_decay(torch.ones(1), torch.tensor([[1.0]]), lr=1.0, beta=0.5, decay=0.5).flatten().tolist()
        [1.0, 1.0]
    """
    norms, memory = [start], torch.zeros_like(start)
    for now in pp:
        radial = memory + decay * norms[-1]
        norms.append(norms[-1] - 2 * lr * radial + lr**2 * now)
        memory = beta * (radial - lr * now)
    return torch.stack(norms)


def projected(start: Tensor, qq: Tensor, *, lr: float, keep: float) -> Tensor:
    """SGDP and AdamP: `|w_{t+1}|^2 = keep^2 |w_t|^2 + lr^2 |q_t|^2`; the growth of gradient descent, whatever `u`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        qq: `|q_t|^2`, `(steps, blocks)`.
        lr: Learning rate.
        keep: What decay leaves of the weight at each step.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> projected(torch.ones(1), torch.tensor([[1.0]]), lr=1.0, keep=0.5).flatten().tolist()
        [1.0, 1.25]
    """
    return decoupled_decay(start, qq, lr=lr, beta=0.0, keep=keep)


def any_update(start: Tensor, uu: Tensor, wu: Tensor, *, lr: float) -> Tensor:
    """No assumption at all: `|w_{t+1}|^2 = |w_t|^2 - 2 lr w_t.u_t + lr^2 |u_t|^2`.

    Args:
        start: `|w_0|^2`, `(blocks,)`.
        uu: `|u_t|^2`, `(steps, blocks)`.
        wu: `w_t.u_t`, `(steps, blocks)`.
        lr: Learning rate.

    Returns:
        `|w_t|^2`, `(steps + 1, blocks)`.

    Examples:
        >>> any_update(torch.ones(1), torch.tensor([[1.0]]), torch.tensor([[1.0]]), lr=1.0).flatten().tolist()
        [1.0, 0.0]
    """
    growth = lr**2 * uu - 2 * lr * wu
    return torch.cat([start[None], start + growth.cumsum(0)])


def growth_ratio(beta: float) -> float:
    """Corollary 2.3: how many times more momentum grows the squared norm, if its updates are as long.

    Args:
        beta: Momentum, in [0, 1).

    Returns:
        `(1 + beta) / (1 - beta)`, the limit over many steps.

    Raises:
        ValueError: A momentum outside [0, 1).

    Examples:
        >>> round(growth_ratio(0.9), 12)
        19.0
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta={beta}: must be in [0, 1); at 1 the growth of momentum has no limit")
    return (1 + beta) / (1 - beta)


def orthogonal_step(ratio: Tensor) -> Tensor:
    """The effective step `|w'/|w'| - w/|w||` of an update orthogonal to `w`: `2 sin(arctan(ratio) / 2)`.

    Args:
        ratio: `|w' - w| / |w|`.

    Returns:
        The same shape.

    Examples:
        >>> f"{orthogonal_step(torch.tensor(1.0)).item():.4f}"
        '0.7654'
    """
    return 2 * (ratio.atan() / 2).sin()

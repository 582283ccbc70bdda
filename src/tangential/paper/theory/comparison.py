"""Corollary 2.3: ratio of the norm growth of momentum to that of gradient descent, for updates of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tangential.paper.theory import laws
from tangential.paper.theory.check import Check
from tangential.paper.theory.losses import linear_model
from tangential.paper.theory.trajectories import Make, gradient

BETAS = (0.5, 0.9, 0.99)
LR = 0.05


def corollary_2_3(beta: float, *, plain: Make | None = None, heavy: Make | None = None) -> Check:
    """The ratio of the two growths tends to `(1 + beta) / (1 - beta)` (section 2, Corollary 2.3).

    The corollary assumes that the updates of both are equally long at every step, and that their squares have a finite
    sum. Training does not fulfil that, so the check does: each step's loss is multiplied by the number that makes the
    update `((1 + beta) / 2)^t` long. The loss stays scale-invariant, and the two runs go their own ways.

    Args:
        beta: Momentum.
        plain: Builds gradient descent at `LR`.
        heavy: Builds momentum at `LR` and `beta`.

    Returns:
        The check; its error is that of the ratio or of the assumption, whichever is larger.

    Examples:
        >>> check = corollary_2_3(0.5)
        >>> round(check.predicted, 9), round(check.measured, 9)
        (3.0, 3.0)
    """
    predicted = laws.growth_ratio(beta)
    lengths = _lengths(beta)
    little, of_plain = _grow(plain or partial(torch.optim.SGD, lr=LR), 0.0, lengths)
    much, of_heavy = _grow(heavy or partial(torch.optim.SGD, lr=LR, momentum=beta), beta, lengths)
    measured = much / little
    unequal = max(abs(a - b) for a, b in zip(of_plain, of_heavy, strict=True)) / max(lengths)
    return Check(
        law="Corollary 2.3: momentum against none",
        formula="growth ratio → (1+β)/(1−β)",
        subject=f"normalised linear model, β = {beta:g}",
        predicted=predicted,
        measured=measured,
        error=max(abs(measured - predicted) / predicted, unequal),
        note="the equal update norms it assumes are made, by scaling each step's loss; what differs is in the error",
    )


def _lengths(beta: float) -> list[float]:
    """How long each update is. They shrink more slowly than the buffer, which a gradient can only make longer."""
    return [((1 + beta) / 2) ** t for t in range(round(30 / (1 - beta)))]


def _grow(make: Make, beta: float, lengths: Sequence[float]) -> tuple[float, list[float]]:
    """By how much `|w|^2` grows over updates of these lengths, and how long they were."""
    loss = linear_model()
    (w,) = loss.weights
    optimizer = make(loss.weights)
    start, p = w.detach().clone(), torch.zeros_like(w)
    found = []
    for step, length in enumerate(lengths):
        gradient(loss, step)
        p = _extended(w, beta * p, length)
        before = w.detach().clone()
        optimizer.step()
        found.append(float((w.detach() - before).norm()) / LR)
    return float(w.detach().square().sum() - start.square().sum()), found


def _extended(w: Tensor, old: Tensor, length: float) -> Tensor:
    """Scale the gradient so that the update becomes this long: the positive root of `|old + s g| = length`."""
    assert w.grad is not None
    gg, gp = w.grad.square().sum(), (w.grad * old).sum()
    w.grad.mul_(((gp**2 + gg * (length**2 - old.square().sum())).sqrt() - gp) / gg)
    return old + w.grad

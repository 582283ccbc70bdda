"""Equilibrium rotation: the angle per step once weight decay and growth are even.

These are expectations, not identities. They hold for gradients that are noise: drawn anew at every step, in all
directions orthogonal to the weight alike, as long in one step as in the next; for blocks of many elements; for a small
`lr * decay`; and after the norm has settled. The check is made where all that is so, on `losses.noise`. The predictions
for projected optimizers need the settled norm only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from tangential.blocks import Blocks
from tangential.optimizers import SGDP, AdamP
from tangential.paper.theory.check import Check
from tangential.paper.theory.geometry import angles
from tangential.paper.theory.losses import noise
from tangential.paper.theory.trajectories import Make, gradient, rows
from tangential.telemetry.equilibrium import adamw_rotation, projected_rotation, sgd_rotation

SETTLE = 1500
MEASURE = 1000
TOLERANCE = 0.01
"""Of the order of `lr * decay` and of the sampling error, which together leave about half of it."""

LR = 0.02
BETA = 0.9
SGD_DECAY = 0.01
ADAM_DECAY = 0.1
BETAS = (BETA, 0.99)

SGD = partial(torch.optim.SGD, lr=LR, momentum=BETA, weight_decay=SGD_DECAY)
ADAMW = partial(torch.optim.AdamW, lr=LR, betas=BETAS, weight_decay=ADAM_DECAY)
WHOLE_DECAY_SGDP = partial(SGDP, lr=LR, momentum=BETA, weight_decay=SGD_DECAY, wd_ratio=1.0, blocks=Blocks())
WHOLE_DECAY_ADAMP = partial(AdamP, lr=LR, betas=BETAS, weight_decay=ADAM_DECAY, wd_ratio=1.0, blocks=Blocks())


def equilibria() -> Iterator[Check]:
    """Check the rotation of SGD, AdamW, SGDP and AdamP.

    Yields:
        One statistical check per optimizer.
    """
    yield sgd()
    yield adamw()
    yield sgdp()
    yield adamp()


def sgd(make: Make = SGD) -> Check:
    """SGD with momentum and coupled decay turns `sqrt(2 lr decay / (1 + momentum))` per step (arXiv 2305.17212).

    Args:
        make: Builds it, with the settings of `SGD`.

    Returns:
        The check.
    """
    predicted = sgd_rotation(lr=LR, decay=SGD_DECAY, momentum=BETA)
    return _rotation("Equilibrium rotation of SGD (2305.17212)", "θ = √(2ηλ/(1+β))", predicted, make)


def adamw(make: Make = ADAMW) -> Check:
    """AdamW turns `sqrt(2 lr decay (1 - beta1) / (1 + beta1))` per step (arXiv 2305.17212).

    Args:
        make: Builds it, with the settings of `ADAMW`.

    Returns:
        The check.
    """
    predicted = adamw_rotation(lr=LR, decay=ADAM_DECAY, beta1=BETA)
    return _rotation("Equilibrium rotation of AdamW (2305.17212)", "θ = √(2ηλ(1−β₁)/(1+β₁))", predicted, make)


def sgdp(make: Make = WHOLE_DECAY_SGDP) -> Check:
    """SGDP turns `arctan sqrt(1 / keep^2 - 1)` per step (derived here).

    Args:
        make: Builds it, with the settings of `WHOLE_DECAY_SGDP`: no `wd_ratio` below 1.

    Returns:
        The check.
    """
    return _projected_rotation(1 - LR * SGD_DECAY / (1 - BETA), make)


def adamp(make: Make = WHOLE_DECAY_ADAMP) -> Check:
    """AdamP turns `arctan sqrt(1 / keep^2 - 1)` per step (derived here).

    Args:
        make: Builds it, with the settings of `WHOLE_DECAY_ADAMP`: no `wd_ratio` below 1.

    Returns:
        The check.
    """
    return _projected_rotation(1 - LR * ADAM_DECAY, make)


def _projected_rotation(keep: float, make: Make) -> Check:
    predicted = projected_rotation(keep)
    return _rotation("Equilibrium rotation, projected (derived)", "tan²θ = 1/ρ² − 1", predicted, make)


def _rotation(law: str, formula: str, predicted: float, make: Make) -> Check:
    loss = noise()
    optimizer = make(loss.weights)
    squares = []
    before = rows(loss.weights)
    for step in range(SETTLE + MEASURE):
        gradient(loss, step)
        optimizer.step()
        after = rows(loss.weights)
        if step >= SETTLE:
            squares.append(angles(before, after).square().mean())
        before = after
    measured = float(torch.stack(squares).mean().sqrt())
    return Check(
        law=law,
        formula=formula,
        subject=f"noise, {type(optimizer).__name__}",
        predicted=predicted,
        measured=measured,
        error=abs(measured - predicted) / predicted,
        tolerance=TOLERANCE,
        statistical=True,
        note="not an identity: the mean over noise gradients, at a settled norm and small ηλ",
    )

"""Optimizers of the checks, and the rule by which each turns gradients into updates."""

from __future__ import annotations

from functools import partial

import torch

from tangential.algorithm import Adam, Rule, Sgd
from tangential.blocks import Blocks
from tangential.optimizers import SGDP, AdamP

STEPS = 60
LR = 0.5
ADAM_LR = 0.03
BETA = 0.9
BETA2 = 0.999
DECAY = 0.002
WD_RATIO = 0.1
TINY = 1e-30
"""Every `eps` here: the usual 1e-8 would show at a relative error of 1e-9."""

GRADIENT_DESCENT = partial(torch.optim.SGD, lr=LR)
HEAVY_BALL = partial(torch.optim.SGD, lr=LR, momentum=BETA)
NESTEROV = partial(torch.optim.SGD, lr=LR, momentum=BETA, nesterov=True)
COUPLED = partial(torch.optim.SGD, lr=LR, momentum=BETA, weight_decay=DECAY)
DECOUPLED = partial(SGDP, lr=LR, momentum=BETA, weight_decay=DECAY, blocks=None)
PROJECTED_SGDP = partial(SGDP, lr=LR, momentum=BETA, weight_decay=DECAY, wd_ratio=WD_RATIO, eps=TINY, blocks=Blocks())
PROJECTED_ADAMP = partial(AdamP, lr=ADAM_LR, weight_decay=DECAY, wd_ratio=WD_RATIO, eps=TINY, blocks=Blocks())
ADAM = partial(torch.optim.Adam, lr=ADAM_LR, betas=(BETA, BETA2), eps=TINY)
ADAM_WITHOUT_MOMENTUM = partial(torch.optim.Adam, lr=ADAM_LR, betas=(0.0, BETA2), eps=TINY)


def plain(t: float) -> Rule:
    """The rule of gradient descent.

    Examples:
        >>> plain(1).advance(2.0, 7.0)
        (2.0,)
    """
    return Sgd(momentum=0.0)


def heavy_ball(t: float) -> Rule:
    """The rule of momentum.

    Examples:
        >>> heavy_ball(1).advance(2.0, 10.0)
        (11.0,)
    """
    return Sgd(momentum=BETA)


def nesterov(t: float) -> Rule:
    """The rule of Nesterov momentum.

    Examples:
        >>> heavy_ball(1).direction(2.0, 10.0), nesterov(1).direction(2.0, 10.0)
        (10.0, 11.0)
    """
    return Sgd(momentum=BETA, nesterov=True)


def adam(t: float) -> Rule:
    """The rule of Adam at step `t`.

    Examples:
        >>> round(adam(1).direction(2.0, 0.1 * 2.0, 0.001 * 4.0), 9)
        1.0
    """
    return Adam(t=t, betas=(BETA, BETA2), eps=TINY)


def adam_without_momentum(t: float) -> Rule:
    """The same with `beta1 = 0`.

    Examples:
        >>> adam_without_momentum(7).advance(2.0, 5.0, 0.0)[0]
        2.0
    """
    return Adam(t=t, betas=(0.0, BETA2), eps=TINY)

"""Trajectories of an optimizer on a loss: weights, gradients and updates of every step, as rows.

The updates are computed from the gradients, by the rule that the law is about, and not read from the optimizer: a law
that relates them to the weights then fails for an optimizer with another momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Rule
from tangential.blocks import row_dots
from tangential.paper.theory.losses import Loss

Make = Callable[[Sequence[Tensor]], Optimizer]
"""Builds an optimizer from parameters: `functools.partial(torch.optim.SGD, lr=0.1)`."""

Rows = list[Tensor]
"""One `(rows, elements)` matrix per weight."""


@dataclass(frozen=True)
class Trajectory:
    """Every step of a run, by the letters of the laws.

    Args:
        optimizer: The name of its class.
        w: Weights before each step and after the last, one more than steps.
        g: Gradients.
        m: Momentum buffers after the step.
        u: Updates before projection: what plain SGD or Adam multiplies with the learning rate.
    """

    optimizer: str
    w: list[Rows]
    g: list[Rows]
    m: list[Rows]
    u: list[Rows]

    def dots(self, a: str, b: str) -> Tensor:
        """`a.b` of every block at every step, `(steps, blocks)`; the weights are those before the step."""
        return torch.stack([dots(x, y) for x, y in zip(getattr(self, a), getattr(self, b), strict=False)])

    def tangential(self) -> Tensor:
        """`|u - w (w.u) / |w|^2|^2`, `(steps, blocks)`: what projection leaves of the updates."""
        return self.dots("u", "u") - self.dots("w", "u") ** 2 / self.dots("w", "w")[: len(self.u)]

    @property
    def squared_norms(self) -> Tensor:
        """`|w_t|^2`, `(steps + 1, blocks)`."""
        return self.dots("w", "w")


def follow(loss: Loss, make: Make, rule: Callable[[float], Rule], *, steps: int, decay: float = 0.0) -> Trajectory:
    """Train the weights of a loss and keep every step.

    Args:
        loss: Where to start; its weights are moved.
        make: Builds the optimizer of the invariant weights.
        rule: From the step, counted from 1, to the rule of the updates.
        steps: How many.
        decay: Weight decay that the law adds to the gradient.

    Returns:
        The trajectory.

    Examples:
        >>> from functools import partial
        >>> from tangential.paper.theory.losses import linear_model
        >>> from tangential.paper.theory.settings import plain
        >>> run = follow(linear_model(), partial(torch.optim.SGD, lr=0.1), plain, steps=3)
        >>> run.squared_norms.shape
        torch.Size([4, 5])
    """
    optimizer = make(loss.weights)
    rest = torch.optim.SGD(loss.others, lr=0.05) if loss.others else None
    run = Trajectory(type(optimizer).__name__, w=[rows(loss.weights)], g=[], m=[], u=[])
    moments = [[torch.zeros_like(w) for _ in rule(1).names] for w in run.w[0]]
    for step in range(steps):
        gradient(loss, step)
        optimizer.step()
        if rest is not None:
            rest.step()
        now = rule(step + 1)
        run.g.append(rows([_grad(w) for w in loss.weights]))
        slopes = [g + decay * w for g, w in zip(run.g[-1], run.w[-1], strict=True)]
        moments = [now.advance(g, *old) for g, old in zip(slopes, moments, strict=True)]
        run.m.append([first for first, *_ in moments])
        run.u.append([now.direction(g, *new) for g, new in zip(slopes, moments, strict=True)])
        run.w.append(rows(loss.weights))
    return run


def gradient(loss: Loss, step: int) -> None:
    """Put the gradient of this step's loss into `.grad` of every parameter."""
    for parameter in (*loss.weights, *loss.others):
        parameter.grad = None
    loss(step).backward()


def rows(weights: Sequence[Tensor]) -> Rows:
    """Copies as `(rows, elements)`, one per weight."""
    return [w.detach().clone().flatten(1) for w in weights]


def dots(a: Rows, b: Rows) -> Tensor:
    """`a.b` of every row of every weight, `(blocks,)`."""
    return torch.cat([row_dots(x, y) for x, y in zip(a, b, strict=True)])


def _grad(w: Tensor) -> Tensor:
    assert w.grad is not None
    return w.grad

"""Trajectories of an optimizer on a toy problem: weights and losses of every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tangential.paper.toys.optimizers import Make
from tangential.paper.toys.problems import Toy


@dataclass(frozen=True)
class Trajectory:
    """Weights and losses of one optimizer on a toy problem.

    Args:
        name: The optimizer's, in tables and legends.
        toy: The problem.
        points: The weight before each step and after the last, `(steps + 1, dimensions)`.
        losses: The loss there, `(steps + 1,)`.
    """

    name: str
    toy: Toy
    points: Tensor
    losses: Tensor

    @property
    def norms(self) -> Tensor:
        """The length of the weight, `(steps + 1,)`."""
        return self.points.norm(dim=1)

    @property
    def directions(self) -> Tensor:
        """The weight at length one, `(steps + 1, dimensions)`."""
        return self.points / self.norms[:, None]


def run(toy: Toy, make: Make, *, name: str = "") -> Trajectory:
    """Take the steps of a toy problem with an optimizer, in float64.

    Args:
        toy: The problem.
        make: Builds the optimizer from its one parameter, of shape `(1, dimensions)`.
        name: The trajectory's name; the optimizer's class if empty.

    Returns:
        The trajectory.

    Raises:
        FloatingPointError: A weight became infinite or NaN.

    Examples:
        >>> from functools import partial
        >>> from tangential.paper.toys.problems import CIRCLE
        >>> trajectory = run(CIRCLE, partial(torch.optim.SGD, lr=0.01))
        >>> f"{trajectory.losses[499]:.4f} {trajectory.norms[500]:.2f}"
        '0.0086 1.02'
    """
    w = torch.tensor([toy.start], dtype=torch.float64, requires_grad=True)
    optimizer = make([w])
    name = name or type(optimizer).__name__
    rates = [group["lr"] for group in optimizer.param_groups]
    points = [w.detach().clone()]
    for step in range(toy.steps):
        _gradient(toy, w)
        if toy.falling:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - (step + 1) / toy.steps)
        optimizer.step()
        if not w.isfinite().all():
            raise FloatingPointError(f"{name} is not finite after step {step + 1} of the {toy.name} toy; lower its lr")
        points.append(w.detach().clone())
    weights = torch.cat(points)
    return Trajectory(name, toy, weights, toy.loss(weights))


def run_all(toy: Toy, makers: Mapping[str, Make]) -> list[Trajectory]:
    """Take the steps with several optimizers, each from the start.

    Args:
        toy: The problem.
        makers: From a name to what builds the optimizer.

    Returns:
        The trajectories, in the same order.
    """
    return [run(toy, make, name=name) for name, make in makers.items()]


def _gradient(toy: Toy, w: Tensor) -> None:
    w.grad = None
    toy.loss(w).sum().backward()
    assert w.grad is not None
    if toy.unit_gradient:
        w.grad /= w.grad.norm()

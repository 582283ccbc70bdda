"""The two toy problems of the paper: a scale-invariant loss in the plane and one in space.

2-D: the loss depends on the angle to `(0, -1)` alone, so it is drawn on a circle (the videos of the authors' page).
3-D: Rosenbrock's valley laid over a part of the sphere (the paper's figure).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ANGLE = 1.5
"""Rosenbrock's coordinates per radian of longitude and latitude."""

STEEPNESS = 300.0
"""Rosenbrock's second coefficient, which is 100 as a rule."""


@dataclass(frozen=True)
class Toy:
    """A scale-invariant problem small enough to draw, and how steps are taken on it.

    Args:
        name: "2d" or "3d".
        about: One line on it.
        loss: `(..., dimensions)` to `(...)`.
        start: The first weight.
        steps: How many to take.
        unit_gradient: Every gradient is scaled to length one.
        falling: The learning rate falls linearly to zero.
    """

    name: str
    about: str
    loss: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    steps: int
    unit_gradient: bool = False
    falling: bool = False


def circle(w: Tensor) -> Tensor:
    """Squared distance of the direction from `(0, -1)`: `(1 - cos(w, w*))^2`.

    Args:
        w: `(..., 2)`.

    Returns:
        `(...)`, from 0 to 4.

    Examples:
        >>> circle(torch.tensor([[0.0, -3.0], [2.0, 0.0], [0.0, 1.0]])).tolist()
        [0.0, 1.0, 4.0]
    """
    return (1 + w[..., 1] / w.norm(dim=-1)) ** 2


def valley(w: Tensor) -> Tensor:
    """Rosenbrock's function of longitude and latitude: `(1 - psi)^2 + 300 (phi - psi^2)^2`.

    Args:
        w: `(..., 3)`.

    Returns:
        `(...)`; zero at `(psi, phi) = (1, 1)`.

    Examples:
        >>> w = on_sphere(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        >>> [round(x, 6) for x in valley(7 * w).tolist()]
        [0.0, 1.0]
    """
    psi, phi = on_chart(w).unbind(-1)
    return (1 - psi) ** 2 + STEEPNESS * (phi - psi**2) ** 2


def on_chart(w: Tensor) -> Tensor:
    """Rosenbrock's coordinates of a weight: longitude and latitude, in units of 1/1.5 radian.

    Args:
        w: `(..., 3)`.

    Returns:
        `(..., 2)`: psi and phi.

    Examples:
        >>> on_chart(torch.tensor([1.0, 0.0, 0.0])).tolist()
        [0.0, 0.0]
    """
    x, y, z = w.unbind(-1)
    return ANGLE * torch.stack([torch.atan2(y, x), torch.asin(z / w.norm(dim=-1))], -1)


def on_sphere(chart: Tensor) -> Tensor:
    """Weight of length one with these coordinates.

    Args:
        chart: `(..., 2)`: psi and phi.

    Returns:
        `(..., 3)`.

    Examples:
        >>> on_sphere(torch.zeros(2)).tolist()
        [1.0, 0.0, 0.0]
    """
    longitude, latitude = (chart / ANGLE).unbind(-1)
    across = latitude.cos()
    return torch.stack([across * longitude.cos(), across * longitude.sin(), latitude.sin()], -1)


CIRCLE = Toy("2d", "(1 - cos(w, w*))² in the plane", circle, start=(0.001, 1.0), steps=500)

SPHERE = Toy(
    "3d",
    "Rosenbrock's valley on the sphere",
    valley,
    start=(
        math.cos(2 / ANGLE) * math.cos(-2 / ANGLE),
        math.cos(2 / ANGLE) * math.sin(-2 / ANGLE),
        math.sin(2 / ANGLE),
    ),
    steps=200,
    unit_gradient=True,
    falling=True,
)
"""It starts at `(psi, phi) = (-2, 2)`, on the far side of the valley from the minimum at `(1, 1)`."""

"""A generic point: weights at which nothing is invariant, zero or equal by accident of initialisation.

A bias that starts at zero breaks no invariance yet, a residual branch that starts with a zero scale has no gradient,
and unit gains look like no gains. What holds at a generic point holds everywhere, up to a set of measure zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SMALL = 65536
_LAYER_SCALE = 1e-2


@torch.no_grad()
def make_generic(model: nn.Module, generator: torch.Generator) -> None:
    """Move trainable weights that sit at special values away from them; frozen ones stay, since they never move."""
    for weight in _trainable(model):
        first = float(weight.flatten()[0])
        if bool((weight == first).all()):
            weight.copy_(_instead_of_constant(weight, first, generator))
        else:
            _fill_zeros(weight, generator)


@torch.no_grad()
def jitter(model: nn.Module, generator: torch.Generator, amount: float = 0.1) -> None:
    """Go on to another generic point nearby; large weights get one factor per row, which is as good and cheaper."""
    for weight in _trainable(model):
        shape = weight.shape if weight.numel() <= _SMALL else (weight.shape[0],) + (1,) * (weight.ndim - 1)
        weight.mul_(1 + amount * _uniform(weight, generator, shape))


def _trainable(model: nn.Module) -> list[Tensor]:
    return [w for w in model.parameters() if w.requires_grad and w.is_floating_point() and w.numel()]


def _instead_of_constant(weight: Tensor, value: float, generator: torch.Generator) -> Tensor:
    if value == 0:
        rows = weight.ndim >= 2 and weight.shape[0] > 1 and weight[0].numel() > 1
        return _normal(weight, generator) * (1 / math.sqrt(weight[0].numel()) if rows else 0.3)
    # A layer scale of 1e-6 would make its whole branch look linear.
    size = 1.0 if abs(value) < _LAYER_SCALE and weight.numel() > 1 else value
    return size * (1 + 0.3 * _uniform(weight, generator, weight.shape))


def _fill_zeros(weight: Tensor, generator: torch.Generator) -> None:
    """Identity, Dirac and sparse initialisations, padding rows, biases that are zero in part."""
    zero = weight == 0
    if zero.any():
        typical = weight.square().sum().div((~zero).sum()).sqrt() if weight.ndim > 1 else 1.0
        weight.add_(zero * _normal(weight, generator) * 0.3 * typical)


# The generator lives on the CPU, so that a seed means the same point on every device.
def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)


def _uniform(like: Tensor, generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    drawn = torch.rand(shape, generator=generator, dtype=like.dtype, device="cpu")
    return (2 * drawn - 1).to(like.device)

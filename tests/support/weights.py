"""Weights and gradients that the optimizer tests step: every rank and layout, scale-invariant and not."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = [(8, 3, 3, 3), (5,), (6, 7), (1, 9), (4, 1, 3, 3), (30, 40), (), (3, 4), (2, 200), (9, 5, 4)]


def weights(dtype: torch.dtype = torch.float64, shapes: list[tuple[int, ...]] | None = None) -> list[Tensor]:
    """One leaf per shape, the same values every time."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes or SHAPES]
    return [w.to(dtype).requires_grad_() for w in made]


def tangent(w: Tensor, x: Tensor) -> Tensor:
    """`x` without its part along `w`, per output channel: what the gradient of a scale-invariant weight looks like."""
    rows, others = w.detach().flatten(1), x.flatten(1)
    along = (rows * others).sum(1) / (rows * rows).sum(1).clamp_min(1e-300)
    return (others - rows * along[:, None]).view_as(x)


def gradient_passing(w: Tensor, kind: str) -> Tensor:
    """A gradient that passes the paper's test by "channel", as a "layer", or, as any other kind, not at all."""
    g = torch.randn(w.shape, dtype=torch.float64)
    if kind == "channel":
        return tangent(w, g)
    return tangent(w.reshape(1, -1), g.view(1, -1)).view_as(w) if kind == "layer" else g


def row_error(p: Tensor, d: Tensor) -> float:
    """Largest error of a row, in parts of its largest entry."""
    return float(((p.detach().double() - d.detach()).abs().amax(1) / d.detach().abs().amax(1)).max())


def give_gradients(params: list[Tensor], step: int) -> None:
    """Random gradients, the same for the same step; those of even-numbered matrices have no radial part."""
    generator = torch.Generator().manual_seed(100 + step)
    for i, p in enumerate(params):
        x = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if i % 2 == 0 and p.ndim > 1:
            x = tangent(p.detach().real.double(), x)
        p.grad = x.to(p.dtype)


def float32_copies(params: list[Tensor]) -> list[Tensor]:
    """The same weights in float32, in memory of their own."""
    return [p.detach().float().requires_grad_() for p in params]


def step_both(half: torch.optim.Optimizer, full: torch.optim.Optimizer, step: int) -> None:
    """Take a step of weights in half precision and of the same in float32, with gradients that both can hold."""
    params, others = (optimizer.param_groups[0]["params"] for optimizer in (half, full))
    give_gradients(params, step)
    for p, q in zip(params, others, strict=True):
        q.grad = p.grad.float()
    half.step()
    full.step()


def run(optimizer: torch.optim.Optimizer, params: list[Tensor], steps: int = 20) -> list[Tensor]:
    """Take the steps; returns the weights."""
    for step in range(steps):
        give_gradients(params, step)
        optimizer.step()
    return [p.detach() for p in params]


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference, relative to the largest entry of its weight."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs if a.numel())


def block_dots(blocks, a, b):
    """a.b of every invariant block, by slicing: no code of the backends."""
    products = (a * b).movedim(blocks.dim, 0).flatten(1).sum(1)
    found, at = [], 0
    for length, invariant in blocks.runs(a.shape):
        if invariant:
            found.append(products[at : at + length].sum())
        at += length
    return torch.stack(found)

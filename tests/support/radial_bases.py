"""Bases that the tests of radial policies wrap, and a loss that is scale-invariant in every row of one weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential import Blocks

LR = 0.02


def lion(params: Iterable[Tensor], **settings: Any) -> Optimizer:
    timm = pytest.importorskip("timm.optim")
    return timm.Lion(params, **{"lr": LR, "weight_decay": 0.1, **settings})


BASES: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda p, **kw: torch.optim.SGD(p, **{"lr": LR, "momentum": 0.9, **kw}),
    "SGD, L2": lambda p, **kw: torch.optim.SGD(p, **{"lr": LR, "momentum": 0.9, "weight_decay": 0.1, **kw}),
    "Adam": lambda p, **kw: torch.optim.Adam(p, **{"lr": LR, **kw}),
    "AdamW": lambda p, **kw: torch.optim.AdamW(p, **{"lr": LR, "weight_decay": 0.1, **kw}),
    "NAdam": lambda p, **kw: torch.optim.NAdam(
        p, **{"lr": LR, "weight_decay": 0.1, "decoupled_weight_decay": True, **kw}
    ),
    "RMSprop": lambda p, **kw: torch.optim.RMSprop(p, **{"lr": LR, "momentum": 0.9, **kw}),
    "Muon": lambda p, **kw: torch.optim.Muon(p, **{"lr": LR, "weight_decay": 0.1, **kw}),
    "Lion": lion,
}
DECAYS = {"AdamW": 0.1, "NAdam": 0.1, "Muon": 0.1, "Lion": 0.1}
"""Decoupled weight decay of the bases that have it."""

every_base = pytest.mark.parametrize("base", BASES)

ROWS = Blocks()
BLOCKS = {
    "rows": Blocks(),
    "columns": Blocks(dim=1),
    "pairs of rows": Blocks(size=2),
    "whole": Blocks(size=None),
    "segments": Blocks(segments=((0, 4, 2),)),
}


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A weight that losses see the direction of, by blocks, and one that they see whole."""
    generator = torch.Generator().manual_seed(3)
    w, v = (torch.randn(6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return w.to(dtype).requires_grad_(), v.to(dtype).requires_grad_()


def give_gradients(w: Tensor, v: Tensor, step: int, blocks: Blocks = ROWS) -> None:
    """Gradients of a loss of this step, invariant in `w` by these blocks and not in `v`."""
    generator = torch.Generator().manual_seed(50 + step)
    x, y = (torch.randn(w.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    w.grad, v.grad = None, None
    wide = w.double()
    directions = wide / spread(block_norms(wide, blocks), wide, blocks)
    loss = (directions * x).sum().sin() + (directions * y).sum() ** 2 / 8 + (v.double() * x - y).square().mean()
    loss.backward()


def block_norms(w: Tensor, blocks: Blocks) -> Tensor:
    """The norm of every block, and one for all that is in none."""
    rows = w.movedim(blocks.dim, 0).flatten(1)
    return torch.stack([rows[a:b].norm() for a, b in blocks.spans(w.shape)])


def spread(values: Tensor, w: Tensor, blocks: Blocks) -> Tensor:
    """One number per block for every row, 1 for rows that are in none, to multiply `w`."""
    rows = list(torch.ones(w.shape[blocks.dim], dtype=values.dtype).unbind())
    for value, (a, b) in zip(values, blocks.spans(w.shape), strict=True):
        rows[a:b] = [value] * (b - a)
    return torch.stack(rows).reshape([-1 if d == blocks.dim else 1 for d in range(w.ndim)])

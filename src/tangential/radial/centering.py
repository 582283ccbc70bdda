"""Weights without their mean, as the rotational optimizers of arXiv 2305.17212 have them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tangential.radial.parts import Part
from tangential.radial.repair import combine, elements, per_block, row_sums, tensors_of


@torch.no_grad()
def center(parts: Iterable[Part]) -> None:
    """Take the mean of every block out of it, in place, and give it its length back."""
    for part in parts:
        x = tensors_of(part)
        found = per_block(x, {**row_sums(x, ["ww", "sw"]), "n": elements(x)}, delta=0.0, eps=0.0)
        ww, mean = found.sums["ww"], found.sums["sw"] / found.sums["n"]
        left = ww - mean * found.sums["sw"]
        factor = torch.where(left > 0, ww / torch.where(left > 0, left, 1.0), 1.0) ** 0.5
        combine(x, found.per_row(0.0, 0.0), found.per_row(factor, 1.0), found.per_row(-mean * factor, 0.0))

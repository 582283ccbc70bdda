"""Where the exact answer and the real network differ: epsilons, and weights that are almost invariant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt

import torch
from torch import Size, Tensor

from tangential.blocks import Blocks, row_blocks
from tangential.invariances.euler import Samples, cosines, row_sums
from tangential.invariances.partition import grouped_residual, least_rows, sizes
from tangential.invariances.probe import Probe

_NEAR = 1e-3
_CHANCE = 0.03
"""Cosines of a random gradient are about `1 / sqrt(d)`; below this part of it, in every sample, is no chance."""
_STEP = 2.0**4
_ROUNDED = 1e-5
"""Float32 leaves a residual below this; one above that does not fade with the scale is an ordinary variant weight's."""


def near_residual(sums: Mapping[int, Tensor], shape: tuple[int, ...]) -> float | None:
    """The residual of a cut that is invariant up to a little more than rounding, or None if there is none.

    Args:
        sums: Dimension -> `(samples, 3, rows)`.
        shape: The weight's shape.
    """
    elements = Size(shape).numel()
    for rows_sums in sums.values():
        rows = rows_sums.shape[-1]
        for size in sizes(rows_sums, least_rows(elements, rows)):
            residual = grouped_residual(rows_sums, size)
            if residual < min(_NEAR, _CHANCE / sqrt(elements * size / rows)):
                return residual
    return None


def likely_causes(probe: Probe, names: Iterable[str], samples: Samples, seed: int) -> dict[str, str]:
    """Why these weights are only nearly invariant, from what a larger scale does to the residual.

    An epsilon under a root fades with the square of the scale, a bias or an epsilon beside a norm with the scale, and
    rounding not at all. Weights for which none of it fits are left out: they came near by chance.
    """
    before = {name: _residual(samples, name) for name in names}
    if not before:
        return {}
    after = Samples()
    factors = {name: torch.full((), _STEP, dtype=torch.float64, device="cpu") for name in before}
    with probe.rescaled(factors):
        probe.gradients(seed, lambda name, w, g: after.read(0, name, w, g) if name in before else None)
    causes = {name: _cause(before[name], _residual(after, name)) for name in before if after.of(name)}
    return {name: cause for name, cause in causes.items() if cause}


def _residual(samples: Samples, name: str) -> float:
    """The smallest residual over equal cuts, of all informative samples."""
    sums = samples.of(name)
    return min((grouped_residual(s, size) for s in sums.values() for size in sizes(s, 1)), default=0.0)


def _cause(before: float, after: float) -> str:
    if after < before * _STEP**-1.5:
        return "the residual fades with the square of the scale: probably an epsilon that the probe cannot reach"
    if after < before * _STEP**-0.5:
        return "the residual fades with the scale: probably a small bias, or an epsilon beside a norm"
    if max(before, after) < _ROUNDED:
        return "the residual stays with the scale: probably float32 arithmetic inside a scripted or custom kernel"
    return ""


def real_residuals(probe: Probe, cuts: Mapping[str, Blocks], seed: int) -> dict[str, tuple[float, int]]:
    """For every cut, its largest cosine with the model's own epsilons, and how many blocks exceed `0.1 / sqrt(d)`."""
    found: dict[str, tuple[float, int]] = {}

    def read(name: str, weight: Tensor, gradient: Tensor) -> None:
        if name in cuts:
            found[name] = _real_residual(weight, gradient, cuts[name])

    with probe.own_epsilons():
        probe.gradients(seed, read, keep_eps=True)
    return found


def _real_residual(weight: Tensor, gradient: Tensor, blocks: Blocks) -> tuple[float, int]:
    runs = blocks.runs(weight.shape)
    lengths, invariant = torch.tensor(runs, device="cpu").unbind(1)
    sums = row_blocks([length for length, _ in runs]).total(row_sums(weight, gradient, blocks.dim).cpu())
    found = cosines(sums)[invariant.bool()]
    elements = lengths[invariant.bool()] * weight.numel() / weight.shape[blocks.dim]
    return float(found.max()), int((found * elements.sqrt() > 0.1).sum())

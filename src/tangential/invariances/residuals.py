"""Residuals: how far the real network is from the invariance found without epsilons, and weights that are almost so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_NEGLIGIBLE = 1e-4
"""In units of `1 / sqrt(d)`: a radial part of the gradient this small moves no weight."""
_LARGEST_SCALE = 2.0**20
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


@dataclass(frozen=True)
class RealResidual:
    """What the model's own epsilons leave of an invariance.

    Attributes:
        largest: The largest cosine of a block with its gradient.
        doubtful: Blocks of `d` elements whose cosine exceeds `0.1 / sqrt(d)`.
        relative: The largest cosine in units of `1 / sqrt(d)`, which is what chance gives a variant block.
    """

    largest: float
    doubtful: int
    relative: float


def real_residuals(probe: Probe, cuts: Mapping[str, Blocks], seed: int, scale: float = 1.0) -> dict[str, RealResidual]:
    """The residual of every cut with the model's own epsilons, after multiplying the weights by `scale`."""
    found: dict[str, RealResidual] = {}

    def read(name: str, weight: Tensor, gradient: Tensor) -> None:
        if name in cuts and bool(gradient.any()):  # a gradient of zero, as of units that are off, shows nothing
            found[name] = _real_residual(weight, gradient, cuts[name])

    factors = {name: torch.full((), scale, dtype=torch.float64, device="cpu") for name in cuts}
    with probe.own_epsilons(), probe.rescaled(factors if scale != 1 else {}):
        probe.gradients(seed, read, eps=None)
    return found


def _real_residual(weight: Tensor, gradient: Tensor, blocks: Blocks) -> RealResidual:
    runs = blocks.runs(weight.shape)
    lengths, invariant = torch.tensor(runs, device="cpu").unbind(1)
    sums = row_blocks([length for length, _ in runs]).total(row_sums(weight, gradient, blocks.dim).cpu())
    found = cosines(sums)[invariant.bool()]
    elements = lengths[invariant.bool()] * weight.numel() / weight.shape[blocks.dim]
    relative = found * elements.sqrt()
    return RealResidual(float(found.max()), int((relative > 0.1).sum()), float(relative.max()))


def not_by_an_epsilon(
    probe: Probe, cuts: Mapping[str, Blocks], seed: int, real: Mapping[str, RealResidual]
) -> dict[str, str]:
    """The weights that only the shrinking made invariant, and why, in words.

    With the model's own constants the residual of an invariant weight comes from an epsilon alone. One under a root
    fades with the square of the weights' scale, once they outgrow it. A residual that never fades so fast comes from a
    number that was taken for an epsilon and is none, such as a shift before a norm; it is accepted where it is too
    small to matter.
    """
    before, slow = real, {name for name, residual in real.items() if residual.relative > _NEGLIGIBLE}
    scale = 1.0
    while slow and scale < _LARGEST_SCALE:
        scale *= _STEP
        after = real_residuals(probe, cuts, seed, scale)
        slow -= {name for name in slow & after.keys() if after[name].largest < before[name].largest * _STEP**-1.5}
        before = {**before, **after}
    return dict.fromkeys(slow, _NO_EPSILON)


_NO_EPSILON = (
    "invariant only without a small constant of the model, whose effect fades no faster than the scale grows: a shift, "
    "or a number beside a norm, not an epsilon under a root"
)

"""Euler's identity, measured: the sums `w.g`, `w.w`, `g.g` of every row of every weight, in several samples.

A loss that does not change when a block of a weight is rescaled has a gradient at right angles to that block (arXiv
2006.08217, section 2.1; Euler's identity for degree 0). The converse holds when it is so at every point, and a few
random points of a real network stand for every point.

Of each gradient only three numbers a row are kept, along dimension 0, along dimension 1 where rows of dimension 0 do
not vanish one by one, and along further ones where the whole vanishes; the gradient is freed at once, so that the
analysis of a large model holds one gradient at a time. A sample is informative for a weight if its gradient is more
than 1e-11 of the sample's largest: stochastic depth and routing leave weights out, and a true gradient of zero
arrives as rounding of that size. Verdicts rest on informative samples alone.
"""

from __future__ import annotations

from collections import defaultdict
from math import isfinite

import torch
from torch import Tensor

from tangential.blocks import chunked_row_dots

DEAD = 1e-11
"""A gradient this small relative to the sample's largest is rounding: the true one is zero."""

_VANISHING = 1e-3
"""Blocks whose cosines are all below this look invariant; the true bound is stricter."""
_USUAL = 2
"""Dimensions that are always looked at: outputs, and the outputs of transposed convolutions and of `x @ weight`."""


class Samples:
    """What the probe's backward passes showed, by weight, dimension and sample.

    The sums of one sample are a float64 tensor `(3, rows)` on the CPU, whose rows are `w.g`, `w.w` and `g.g`. A
    weight of 0 or 1 dimension is read as one with rows of one element.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[int, dict[int, Tensor]]] = {}
        self._largest: dict[int, float] = defaultdict(float)

    def read(self, sample: int, name: str, weight: Tensor, gradient: Tensor) -> None:
        """Add one gradient. Called again for the same weight and sample, by reentrant checkpointing, it adds to it."""
        for dim in range(max(weight.ndim, 1)) if weight.numel() else ():
            samples = self._sums.setdefault(name, {}).setdefault(dim, {})
            samples[sample] = sums = _together(samples.get(sample), row_sums(weight, gradient, dim).cpu())
            if dim == 0 and isfinite(length := _length(sums)):
                self._largest[sample] = max(self._largest[sample], length)
            # Nothing is finer than all rows, and further dimensions are worth a look only if the whole is invariant.
            if _vanish(sums) or (dim + 1 >= _USUAL and not _vanish(sums.sum(-1, keepdim=True))):
                return

    def reached(self, name: str) -> bool:
        """Whether the weight takes part in the outputs at all."""
        return name in self._sums

    def strength(self, name: str) -> float:
        """The weight's largest gradient relative to its sample's: 0 if all are exactly zero, NaN if one is NaN."""
        ratios = [_length(sums) / (self._largest[sample] or 1.0) for sample, sums in self._rows(name).items()]
        return max(ratios, key=lambda ratio: (not isfinite(ratio), ratio))

    def informative(self, name: str) -> list[int]:
        """The samples whose gradient of this weight is more than rounding."""
        return [sample for sample, sums in self._rows(name).items() if _length(sums) > DEAD * self._largest[sample]]

    def short(self, wanted: int) -> bool:
        """Whether a weight has informative samples, but fewer than `wanted`, as with stochastic depth and routing."""
        return any(0 < len(self.informative(name)) < wanted for name in self._sums)

    def of(self, name: str) -> dict[int, Tensor]:
        """Dimension -> `(samples, 3, rows)` over the informative samples, where all of them were looked at."""
        wanted = self.informative(name)
        return {
            dim: torch.stack([samples[sample] for sample in wanted])
            for dim, samples in self._sums.get(name, {}).items()
            if wanted and samples.keys() >= set(wanted)
        }

    def _rows(self, name: str) -> dict[int, Tensor]:
        return self._sums.get(name, {}).get(0, {})


def _together(before: Tensor | None, sums: Tensor) -> Tensor:
    """The sums of two parts of one gradient; |g1 + g2| is at most |g1| + |g2|, which is as good a yardstick."""
    if before is None:
        return sums
    return torch.stack((before[0] + sums[0], sums[1], (before[2].sqrt() + sums[2].sqrt()).square()))


def row_sums(weight: Tensor, gradient: Tensor, dim: int) -> Tensor:
    """`w.g`, `w.w` and `g.g` of every index of `dim`: `(3, weight.shape[dim])`."""
    return chunked_row_dots([weight, gradient], lambda w, g: [(w, g), (w, w), (g, g)], dim)


def cosines(sums: Tensor) -> Tensor:
    """`|w.g| / (|w| |g|)` of `(..., 3, blocks)` sums; 0 for blocks whose gradient is rounding beside the others'."""
    dots, weights, gradients = sums.unbind(-2)
    return torch.where(live(sums), dots.abs() / (weights * gradients).sqrt(), 0.0)


def live(sums: Tensor) -> Tensor:
    """Which blocks of `(..., 3, blocks)` sums have a gradient at all."""
    _, weights, gradients = sums.unbind(-2)
    return (weights > 0) & (gradients > 1e-20 * gradients.amax(-1, keepdim=True))


def _vanish(sums: Tensor) -> bool:
    return bool((cosines(sums) < _VANISHING).all())


def _length(sums: Tensor) -> float:
    return float(sums[2].sum().sqrt())

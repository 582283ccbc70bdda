"""Policies that decide element by element, walked in pieces: no mask as large as a weight is made."""

from __future__ import annotations

import torch
from torch import Tensor

from tangential.backends.opmath import to_opmath
from tangential.blocks import chunked_row_dots, chunks
from tangential.radial.policy import Policy, Step
from tangential.radial.projections import SphericalCaution
from tangential.radial.repair import PerBlock, Tensors, factors


def treat_elements(policy: Policy, x: Tensors, found: PerBlock, step: Step) -> None:
    """Write the weights that the policy wants."""
    if isinstance(policy, SphericalCaution):
        _caution(policy, x, found, step)
    else:
        _cautious_decay(x, found, step)


def _cautious_decay(x: Tensors, found: PerBlock, step: Step) -> None:
    """Give back the decay of the elements that the step makes larger."""
    for w, old, back in zip(x.weights, x.before, factors(x, found.per_row(step.decay, 0.0)), strict=True):
        for new, before, decay in chunks([w, old, back.expand_as(w)]):
            wide, b = to_opmath(new), to_opmath(before)
            grows = (wide - b + decay * b) * b > 0
            new.copy_(torch.where(grows, wide + decay * b, wide))


def _caution(policy: SphericalCaution, x: Tensors, found: PerBlock, step: Step) -> None:
    """Two passes: what the mask leaves, and how much of it is radial; then the step itself."""
    along = step.ratio(found.sums["wd"], found.sums["ww"])  # of the decayed step; decay adds itself below
    slope = step.ratio(found.sums["wg"], found.sums["ww"])
    each = [factors(x, found.per_row(values, 0.0)) for values in (along, slope)]
    sign = 1.0 if step.group.get("maximize") else -1.0

    def masked(w: Tensor, new: Tensor, g: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        w = to_opmath(w)
        q = to_opmath(new) - w - a * w
        passes = q * (to_opmath(g) - s * w) * sign > 0
        return passes.to(q.dtype), q

    def pairs(w: Tensor, *others: Tensor) -> list[tuple[Tensor, Tensor]]:
        mask, q = masked(w, *others)
        return [(mask, mask), (to_opmath(w), q * mask)]

    tensors = [
        [w, new, g, *(f.expand_as(w) for f in (a, s))]
        for w, new, g, a, s in zip(x.before, x.weights, x.grads, *each, strict=True)
    ]
    counts, left = torch.cat([chunked_row_dots(t, pairs, x.dim) for t in tensors], 1).to(found.sums["ww"].dtype)
    means = [c.sum() / w.numel() for c, w in zip(counts.split(x.rows()), x.weights, strict=True)]
    mean = torch.cat([m.clamp(min=1e-3).expand(r) for m, r in zip(means, x.rows(), strict=True)])
    radial = found.per_row(step.ratio(found.total(left / mean), found.sums["ww"]), 0.0)
    keep = found.per_row(1 - step.decay * policy.wd_ratio, 1.0) - radial
    treated = torch.ones_like(radial, dtype=torch.bool) if found.treated is None else found.spread(found.treated)
    written = zip(tensors, *(factors(x, v) for v in (treated, keep, 1 / mean)), strict=True)
    for own, *last in written:
        for w, new, g, a, s, yes, k, scale in chunks([*own, *(f.expand_as(own[0]) for f in last)]):
            mask, q = masked(w, new, g, a, s)
            new.copy_(torch.where(yes, k * to_opmath(w) + q * mask * scale, to_opmath(new)))

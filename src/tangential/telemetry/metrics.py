"""Metrics of a step from its sums, on the host: per block, per weight, and over all weights.

SUMS `(7, blocks)`   -- per_block -->   METRICS `(7, blocks)`   -- of_weight -->   one number each
-- over_weights -->   median and quantiles
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

METRICS = (
    "relative_update",
    "effective_step",
    "angle",
    "tangential_update",
    "gradient_cosine",
    "radial_update",
    "radial_momentum",
)
SIGNED = ("radial_update", "radial_momentum")
"""Averaged over blocks with their signs; of the others, which are lengths and angles, the root mean square counts."""

QUANTILES = {"q10": 0.1, "median": 0.5, "q90": 0.9}

Detail = Literal["summary", "weights", "quantiles", "blocks"]
Metrics = dict[str, Any]


def per_block(sums: Tensor) -> Tensor:
    """Metrics of every block, `(7, blocks)` sums to `(7, blocks)` in the order of `METRICS`.

    Nothing is taken from a rounded cosine: with the radial part `r` and the tangential part `t` of the update, both in
    units of `|w|`, the angle is `arctan(t / (1 + r))`, exact for small ones too. A block without length has no
    direction, so its metrics are NaN.

    Args:
        sums: `ww, dd, wd, gg, wg, mm, wm` of each block, in float64.

    Examples:
        >>> quarter = torch.tensor([[4.0, 8.0, -4.0, 1.0, 0.0, 1.0, -2.0]], dtype=torch.float64).T
        >>> dict(zip(METRICS, [round(x, 4) for x in per_block(quarter).flatten().tolist()]))["angle"]
        1.5708
    """
    ww, dd, wd, gg, wg, mm, wm = sums
    length = torch.where(ww > 0, ww, torch.nan)
    relative, radial = (dd / length).sqrt(), wd / length
    tangential = (dd - wd * radial).clamp_min(0).div(length).sqrt()
    angle = torch.atan2(tangential, 1 + radial)
    angle = torch.where((tangential == 0) & (radial == -1), torch.nan, angle)  # the step ended at zero
    step = 2 * (angle / 2).sin()
    gradient = wg / (length * torch.where(gg > 0, gg, torch.nan)).sqrt()
    momentum = wm / (length * torch.where(mm > 0, mm, torch.nan)).sqrt()
    return torch.stack([relative, step, angle, tangential, gradient, radial, momentum])


def of_weight(blocks: Tensor, detail: Detail) -> Metrics:
    """Metrics of one weight from those of its blocks, which may be NaN, `(7, blocks)`.

    Args:
        blocks: What `per_block` gave.
        detail: With "quantiles" or "blocks", the spread over blocks or every block comes along.

    Returns:
        A number, or None if no block has one, per metric.
    """
    known = torch.where(blocks.isfinite(), blocks, torch.nan)
    square, mean = known.square().nanmean(1).sqrt().tolist(), known.nanmean(1).tolist()
    found: Metrics = {
        name: number(mean[i] if name in SIGNED else square[i]) for i, name in enumerate(METRICS)
    }  # fmt: skip
    if detail == "blocks":
        found["per_block"] = dict(zip(METRICS, [[number(x) for x in row] for row in known.tolist()], strict=True))
    elif detail == "quantiles" and known.shape[1] > 1:
        levels = known.new_tensor(list(QUANTILES.values()))
        rows = torch.nanquantile(known, levels, dim=1).t().tolist()
        found["quantiles"] = dict(zip(METRICS, [[number(x) for x in row] for row in rows], strict=True))
    return found


def over_weights(weights: dict[str, Metrics]) -> dict[str, dict[str, float]]:
    """Median and quantiles of each metric over the weights that have it; a metric that none has is left out."""
    found = {}
    for name in ("norm", *METRICS, "equilibrium_angle"):
        values = [own[name] for own in weights.values() if own[name] is not None]
        if values:
            column = torch.tensor(values, dtype=torch.float64, device="cpu")
            levels = column.new_tensor(list(QUANTILES.values()))
            found[name] = dict(zip(QUANTILES, torch.quantile(column, levels).tolist(), strict=True))
    return found


def number(x: float) -> float | None:
    """The number, or None for what JSON has no number for."""
    return x if math.isfinite(x) else None

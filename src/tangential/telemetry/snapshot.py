"""The sums of a step of any other optimizer: from a copy of the weights before it, which is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tangential.telemetry.block_rows import (
    Cut,
    cut,
    elements_per_row,
    invariant_spans,
    pieces,
    real,
    row_dots,
    to_float64,
)
from tangential.telemetry.block_sums import SUMS, Part
from tangential.telemetry.watch_list import Watched

MOMENTA = ("exp_avg", "momentum_buffer")
"""Keys of state that torch's, timm's and most other optimizers keep the first moment under."""


@dataclass(eq=False)
class Copy:
    """One weight before the step.

    Args:
        one: The weight.
        cut: The blocks that were copied; None if the limit left none of them.
        before: The copy of their rows.
        whole: `|w|^2` of the whole weight; None where the copy has all of it.
        gradient: Row sums `gg, wg` of the copied rows, once the gradient is there.
    """

    one: Watched
    cut: Cut | None
    before: Tensor | None
    whole: Tensor | None
    gradient: Tensor | None = None

    @property
    def stepped(self) -> bool:
        """Whether there was a gradient to step with."""
        return self.gradient is not None

    def see_gradient(self) -> None:
        """Sum the gradient, which the step may change."""
        g = self.one.weight.grad
        if g is None:
            self.gradient = None
        elif self.cut is None or self.before is None or g.layout != torch.strided:
            self.gradient = _nan(self.one.weight, 2, 1)
        else:
            found = (map(to_float64, piece) for piece in pieces(self.cut.dim, self.before, _rows_of(g, self.cut)))
            self.gradient = torch.cat([row_dots((g, g), (w, g)) for w, g in found], 1)

    def part(self, state: dict[str, Any]) -> Part:
        """Measure what the step did.

        Args:
            state: The optimizer's state of the weight.
        """
        if self.cut is None or self.before is None:
            assert self.whole is not None, "without a copy the norm was taken at once"
            return Part(self.one, _nan(self.one.weight, len(SUMS), 0), self.whole)
        momentum = _momentum(self.one.weight, state)
        others = [] if momentum is None else [_rows_of(momentum, self.cut)]
        found = []
        for piece in pieces(self.cut.dim, self.before, _rows_of(self.one.weight, self.cut), *others):
            w, new, *m = map(to_float64, piece)
            d = new - w
            moment = row_dots((m[0], m[0]), (w, m[0])) if m else w.new_full((2, len(w)), torch.nan)
            found.append(torch.cat([row_dots((w, w), (d, d), (w, d)), moment]))
        sums, gradient = torch.cat(found, 1), self.gradient
        assert gradient is not None, "only weights that stepped are measured"
        rows = torch.cat([sums[:3], gradient.expand(2, sums.shape[1]), sums[3:]])
        return Part(self.one, self.cut.total(rows), sums[0].sum() if self.whole is None else self.whole)


def copies(watched: list[Watched], limit: int, turn: int) -> Iterator[Copy]:
    """Copy what will be needed of weights that are about to change.

    Args:
        watched: The weights.
        limit: Elements that may be copied in all. Beyond it, blocks are sampled evenly from every weight, and a weight
            whose blocks no longer fit is left out this time.
        turn: Which weight comes first, so that every one gets its turn.
    """
    total = sum(one.weight.numel() for one in watched)
    left = limit
    first = turn % len(watched) if watched else 0
    found: dict[str, Copy] = {}
    for one in watched[first:] + watched[:first]:
        found[one.name] = copy = _copy(one, left, share=min(1.0, limit / max(1, total)))
        left -= 0 if copy.before is None else copy.before.numel()
    yield from (found[one.name] for one in watched)


def _copy(one: Watched, left: int, share: float) -> Copy:
    w = real(one.weight)
    shape = tuple(w.shape)
    spans = invariant_spans(shape, one.blocks) if w.numel() else []
    if not spans:
        return Copy(one, None, None, _square(w))
    largest = max(stop - start for start, stop in spans) * elements_per_row(shape, one.blocks.dim)
    most = min(max(1, int(len(spans) * share)), left // largest)
    if not most:
        return Copy(one, None, None, _square(w))
    chosen = cut(shape, one.blocks, most, w.device)
    return Copy(one, chosen, chosen.taken(w), None if chosen.rows is None else _square(w))


def _square(w: Tensor) -> Tensor:
    """`|w|^2`, 0-d."""
    found = [to_float64(x).square().sum() for (x,) in pieces(0, w)] if w.numel() else []
    return torch.stack([*found, _nan(w).new_zeros(())]).sum()


def _nan(like: Tensor, *shape: int) -> Tensor:
    """What stands for sums that were not taken."""
    return to_float64(torch.full(shape, torch.nan, device=like.device))


def _rows_of(x: Tensor, chosen: Cut) -> Tensor:
    """The measured rows, without a copy if they are all."""
    x = real(x)
    return x if chosen.rows is None else x.index_select(chosen.dim, chosen.rows)


def _momentum(weight: Tensor, state: dict[str, Any]) -> Tensor | None:
    for key in MOMENTA:
        found = state.get(key)
        if isinstance(found, Tensor) and found.shape == weight.shape and found.is_floating_point():
            return found
    return None

"""Sums of any optimizer's step, measured from a bounded copy of the weights before it.

    before the step   copy some or all blocks of `w`            `snapshots`
    gradient there    sum `g.g` and `w.g` of the same rows      `Snapshot.read_gradient`
    after the step    sum `w.w`, `d.d`, `w.d` with `d` the difference to what is stored, and `m.m`, `w.m`

So what is reported is what the weight did, whoever changed it: the optimizer, its subclass, a hook or a scaler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tangential.blocks import chunked_row_dots
from tangential.telemetry.block_rows import BlockRows, block_rows, largest_block, real_rows, spans, to_float64
from tangential.telemetry.block_sums import SUMS, BlockSums
from tangential.telemetry.decision import Decision, angle_sums
from tangential.telemetry.parts import Part, Share, part_of
from tangential.telemetry.watch_list import WatchedWeight

MOMENTA = ("exp_avg", "momentum_buffer")
"""Keys of state under which torch's, timm's and most other optimizers keep the first moment."""


@dataclass(eq=False)
class Snapshot:
    """One weight before the step.

    Args:
        weight: The weight.
        rows: The blocks that were copied; None if the limit left none of them.
        before: The copy of their rows.
        norm_squared: `|w|^2` of the whole weight; None where the copy has all of it.
        decision: What decides whether the step projects it; None for other optimizers than ours.
        gradient: Row sums `g.g`, `w.g` of the copied rows, `(2, measured rows)`, once the gradient is there.
        projected: Whether the step projects it; None if the optimizer is not ours.
        part: The part of the weight that lies here, if it is spread over ranks; then the rows are all of the part's.
        test: Sums that the paper's test of such a weight needs, this rank's share of `(3, rows)`.
    """

    weight: WatchedWeight
    rows: BlockRows | None
    before: Tensor | None
    norm_squared: Tensor | None
    decision: Decision | None = None
    gradient: Tensor | None = None
    projected: Tensor | bool | None = None
    part: Part | None = None
    test: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every row was copied, or every row that lies here."""
        return self.rows is not None and self.rows.rows is None

    @property
    def has_stepped(self) -> bool:
        """Whether there was a gradient to step with."""
        return self.gradient is not None

    def read_gradient(self, scale: Tensor | None) -> None:
        """Sum the gradient. Called again, it replaces what was read before, unless the gradient is gone.

        Args:
            scale: What a `GradScaler` has multiplied it with, if the step is to undo that.
        """
        g = self.weight.tensor.grad
        if g is None:
            return
        if g.layout != torch.strided or g.shape != self.weight.tensor.shape:
            self.gradient = _nan(self.weight.tensor, 2, 1)
            return
        if self.part is not None:
            self._read_part(self.part, self.part.local(g), scale)
            return
        if self.decision is not None and (self.is_whole or self.projected is None):  # else the weight has moved since
            before = self.before if self.is_whole and self.before is not None else self.weight.tensor
            self.projected = self.decision.of(before, g, scale)
        if self.rows is None or self.before is None:
            self.gradient = _nan(self.weight.tensor, 2, 1)
            return
        self.gradient = chunked_row_dots([self.before, self.rows.of(real_rows(g))], _gradient_pairs, self.rows.dim)

    def _read_part(self, part: Part, g: Tensor, scale: Tensor | None) -> None:
        assert self.before is not None, "parts are always copied"
        if self.decision is not None:
            self.projected = self.decision.known
            if self.projected is None:
                self.test = part.spread(angle_sums(self.before, g, scale), 0)
        self.gradient = chunked_row_dots([self.before, real_rows(g)], _gradient_pairs, self.weight.blocks.dim)

    def share(self) -> Share | None:
        """What the other ranks are sent beside the sums, of a weight that is spread over them."""
        if self.part is None:
            return None
        test = self.test
        if test is None and self.decision is not None and self.decision.known is None:
            assert self.before is not None, "parts are always copied"
            test = to_float64(torch.zeros(3, self.weight.shape[0], device=self.before.device))
        return Share(self.part, self.has_stepped, self.decision, test)

    def _part_sums(self, part: Part, state: dict[str, Any]) -> BlockSums:
        """This rank's share of what the step did; zeros where it had no gradient."""
        assert self.rows is not None and self.before is not None, "parts are always copied"
        dim = self.weight.blocks.dim
        rows = to_float64(self.before.new_zeros(len(SUMS), self.before.shape[dim], dtype=torch.float32))
        if self.gradient is not None:
            momentum = _momentum(self.weight.tensor, state)
            tensors = [self.weight.tensor] if momentum is None else [self.weight.tensor, momentum]
            read = [self.before, *(real_rows(part.local(x)) for x in tensors)]
            rows[:3] = (found := chunked_row_dots(read, _step_pairs, dim))[:3]
            rows[3:5] = self.gradient
            rows[5:] = torch.nan if momentum is None else found[3:]
        whole = part.spread(rows, dim)
        return BlockSums(self.weight, self.rows.lengths.total(whole), whole[0].sum(), self.projected)

    def sums(self, state: dict[str, Any]) -> BlockSums:
        """Measure what the step did.

        Args:
            state: The optimizer's state of the weight.
        """
        if self.part is not None:
            return self._part_sums(self.part, state)
        assert self.gradient is not None, "only weights that stepped are measured"
        if self.rows is None or self.before is None:
            assert self.norm_squared is not None, "without a copy the norm was taken at once"
            return BlockSums(self.weight, _nan(self.weight.tensor, len(SUMS), 0), self.norm_squared, self.projected)
        momentum = _momentum(self.weight.tensor, state)
        tensors = [self.weight.tensor] if momentum is None else [self.weight.tensor, momentum]
        read = [self.before, *(self.rows.of(real_rows(x)) for x in tensors)]
        found = chunked_row_dots(read, _step_pairs, self.rows.dim)
        moments = found[3:] if momentum is not None else found.new_full((2, found.shape[1]), torch.nan)
        rows = torch.cat([found[:3], self.gradient.expand(2, found.shape[1]), moments])
        norm_squared = found[0].sum() if self.norm_squared is None else self.norm_squared
        return BlockSums(self.weight, self.rows.lengths.total(rows), norm_squared, self.projected)


def _gradient_pairs(w: Tensor, g: Tensor) -> list[tuple[Tensor, Tensor]]:
    w, g = to_float64(w), to_float64(g)
    return [(g, g), (w, g)]


def _step_pairs(*read: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`ww, dd, wd`, and `mm, wm` where there is momentum."""
    w, new, *momentum = map(to_float64, read)
    d = new - w
    return [(w, w), (d, d), (w, d), *(pair for m in momentum for pair in ((m, m), (w, m)))]


def snapshots(weights: list[WatchedWeight], limit: int, turn: int) -> Iterator[Snapshot]:
    """Copy what will be needed of weights that are about to change.

    Args:
        weights: The weights.
        limit: Elements that may be copied in all. Beyond it, blocks are sampled evenly from every weight, and a weight
            whose blocks no longer fit is left out this time. Parts of weights that are spread over ranks are always
            copied.
        turn: Which weight comes first, so that every one gets its turn.
    """
    total = sum(weight.tensor.numel() for weight in weights)
    left = limit
    first = turn % len(weights) if weights else 0
    found: dict[int, Snapshot] = {}
    for weight in weights[first:] + weights[:first]:
        found[id(weight)] = snapshot = _snapshot(weight, left, share=min(1.0, limit / max(1, total)))
        left -= 0 if snapshot.before is None else snapshot.before.numel()
    yield from (found[id(weight)] for weight in weights)


def _snapshot(weight: WatchedWeight, left: int, share: float) -> Snapshot:
    part = part_of(weight.tensor)
    if part is not None:
        here = real_rows(part.local(weight.tensor)).clone()
        rows = block_rows(weight.shape, weight.blocks, None, here.device)
        return Snapshot(weight, rows, here, None, part=part)
    w = real_rows(weight.tensor)
    largest = largest_block(weight.shape, weight.blocks)
    count = len(spans(weight.shape, weight.blocks)) if largest else 0
    most = min(max(1, int(count * share)), left // largest) if count else 0
    if not most:
        return Snapshot(weight, None, None, _norm_squared(w))
    rows = block_rows(weight.shape, weight.blocks, most, w.device)
    before = w.clone() if rows.rows is None else rows.of(w)
    return Snapshot(weight, rows, before, None if rows.rows is None else _norm_squared(w))


def _norm_squared(w: Tensor) -> Tensor:
    """`|w|^2`, 0-d."""
    return chunked_row_dots([w], lambda x: [(wide := to_float64(x), wide)]).sum()


def _nan(like: Tensor, *shape: int) -> Tensor:
    """What stands for sums that were not taken."""
    return to_float64(torch.full(shape, torch.nan, device=like.device))


def _momentum(weight: Tensor, state: dict[str, Any]) -> Tensor | None:
    for key in MOMENTA:
        found = state.get(key)
        if isinstance(found, Tensor) and found.shape == weight.shape and found.layout == torch.strided:
            if found.is_floating_point() or found.is_complex():
                return found
    return None

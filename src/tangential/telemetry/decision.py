"""Whether SGDP or AdamP projects a weight at a step, decided from the same sums and by the same code as in the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Projection
from tangential.backends.buckets import projected
from tangential.backends.group_step import counts
from tangential.backends.rows import lay_out
from tangential.backends.sticky import VOTES, Votes
from tangential.blocks import Blocks, chunked_row_dots
from tangential.optimizers.base import Projected
from tangential.telemetry.block_rows import real_rows, to_float64
from tangential.telemetry.watch_list import WatchedWeight


@dataclass(frozen=True, eq=False)
class Decision:
    """What the decision of one weight depends on, beside its gradient.

    Args:
        weight: The weight.
        votes: Votes of the first steps, copied before the step counts its own; None where they do not decide.
        step: The number of the step that is about to be taken, from 1.
    """

    weight: WatchedWeight
    votes: Tensor | None
    step: Any

    @classmethod
    def before(cls, optimizer: Optimizer, weight: WatchedWeight) -> Decision | None:
        """What is known before the step; None for optimizers that are not ours."""
        if not isinstance(optimizer, Projected):
            return None
        state = optimizer.state.get(weight.tensor) or {}
        if weight.group["blocks"] != "sticky" or weight.tensor.ndim < 2:
            return cls(weight, None, None)
        votes, taken = state.get(VOTES), state.get("step")
        if votes is None:
            votes = torch.zeros(2, dtype=torch.int32, device=weight.tensor.device)
        if not isinstance(taken, Tensor):
            taken = torch.zeros((), device=weight.tensor.device if weight.group["capturable"] else "cpu")
        (count,) = counts([taken], weight.group["capturable"])  # a number, or a tensor where reading would wait
        return cls(weight, votes.clone(), [count + 1] if isinstance(count, Tensor) else count + 1)

    def of(self, before: Tensor, gradient: Tensor, scale: Tensor | None) -> Tensor | bool:
        """Whether the step projects the weight.

        Args:
            before: The weight as the step reads it.
            gradient: Its gradient.
            scale: What the gradient is multiplied with, by a `GradScaler` that leaves it to the step to undo it.
        """
        return self.settled(angle_sums(before, gradient, scale)) if self.known is None else self.known

    @property
    def known(self) -> bool | None:
        """Whether the step projects the weight; None where the paper's test decides, which takes sums."""
        blocks = self.weight.group["blocks"]
        if isinstance(blocks, Blocks):
            return True
        return None if projected(self.weight.tensor, blocks) and self.weight.tensor.numel() else False

    def settled(self, sums: Tensor) -> Tensor:
        """Whether the step projects a weight under the paper's test, from `ww, gg, wg` of its rows, `(3, rows)`."""
        blocks = self.weight.group["blocks"]
        settings = {name: self.weight.group[name] for name in ("delta", "eps", "wd_ratio")}
        layout = lay_out((self.weight.shape,), blocks, sums.device)
        votes = None if self.votes is None else Votes([self.votes], self.step)
        by_channel, by_layer = layout.views(sums, Projection(lr=0.0, decay=0.0, **settings), votes)
        return (by_channel | by_layer).any()


def angle_sums(before: Tensor, gradient: Tensor, scale: Tensor | None) -> Tensor:
    """What the paper's test needs, `ww, gg, wg` of every row, `(3, rows)`. See `Decision.of`."""
    sums = chunked_row_dots([real_rows(before), real_rows(gradient)], _test_pairs)
    if scale is None:
        return sums
    factor = 1 / scale.to(sums)
    return torch.stack([sums[0], sums[1] * factor * factor, sums[2] * factor])


def _test_pairs(w: Tensor, g: Tensor) -> list[tuple[Tensor, Tensor]]:
    w, g = to_float64(w), to_float64(g)
    return [(w, w), (g, g), (w, g)]

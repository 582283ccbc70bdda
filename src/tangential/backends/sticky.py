"""`blocks="sticky"`: the paper's test decides over the first steps, and the majority of those decisions ever after."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

VOTES = "votes"
"""Key of the state that counts in how many of the first steps each view fired: by channel, by layer, `(2,)` int32."""

VOTING_STEPS = 20
"""Steps that vote. A variant weight passes the layer view by chance in 8 % of them, so ten or more are no accident."""


@dataclass(frozen=True)
class Votes:
    """The counts of some weights, and the step count all of them have or one 0-d tensor each."""

    counts: list[Tensor]
    t: float | list[Tensor]

    @property
    def closed(self) -> bool:
        """Whether all votes are counted, so that the test need not be made; a count on a device is not read: False."""
        return not isinstance(self.t, list) and self.t > VOTING_STEPS

    def majority(self) -> tuple[Tensor, Tensor]:
        """The decision of most of the first steps, by channel and by layer, `(weights,)` each."""
        most = _majority(torch.stack(self.counts))
        return most[:, 0], most[:, 1]

    def settle(self, by_channel: Tensor, by_layer: Tensor) -> tuple[Tensor, Tensor]:
        """Count the views that fired, `(weights,)` each; returns these, or later their majority."""
        fired = torch.stack([by_channel, by_layer], 1)
        if isinstance(self.t, list):
            voting = (torch.stack(self.t) <= VOTING_STEPS)[:, None]
            counts = self._count(fired * voting)
            settled = torch.where(voting, fired, _majority(counts))
            return settled[:, 0], settled[:, 1]
        if self.closed:
            return self.majority()
        self._count(fired)
        return by_channel, by_layer

    def _count(self, fired: Tensor) -> Tensor:
        counts = torch.stack(self.counts) + fired
        for kept, count in zip(self.counts, counts.unbind(), strict=True):
            kept.copy_(count)
        return counts


def _majority(counts: Tensor) -> Tensor:
    """By channel if that view fired in most steps; else by layer if either did. `(weights, 2)` to the same."""
    most = counts.cumsum(1) * 2 > VOTING_STEPS
    return torch.stack([most[:, 0], most[:, 1] & ~most[:, 0]], 1)

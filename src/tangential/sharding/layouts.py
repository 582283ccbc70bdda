"""From sums of local rows to the message, and from the message to the factor of every local row.

All weights of a bucket at once. The rows of their local parts lie one behind the other, as in `backends.rows`; a run is
what has one place in the message per kind of sum:

    BlockSums   a run is the local rows of one block      sends ww, wu           reads the same places
    TestSums    a run is the local rows of one weight     sends rows that fail the bound, ww, gg, wg, wu
    RowSums     a run is one local row                    sends ww, gg, wg, wu   reads those of all rows of the weight

What is read are the sums over all ranks, so every rank makes the same decision and takes the factors of its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tangential.algorithm import Projection, passes
from tangential.backends.rows import Layout, lay_out
from tangential.backends.sticky import Votes
from tangential.blocks import row_blocks
from tangential.sharding.dependence import BLOCK_SUMS, TEST_SUMS, SharedSums

Member = tuple[SharedSums, int]
"""What a weight shares, and where its numbers begin in the message."""


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Static blocks of which some lie on several ranks.

    Args:
        layout: The local runs.
        places: Where the message holds what, `(kinds, runs)`.
    """

    layout: Layout
    places: Tensor

    def sent(self, sums: Tensor, projection: Projection) -> Tensor:
        """This rank's share, as `places`, from the sums of its rows, `(2, rows)`."""
        return self.layout.runs.total(sums)

    def factors(self, sums: Tensor, received: Tensor, projection: Projection, votes: Votes | None) -> Tensor:
        """The factor of every local row, `(rows,)`, from what all ranks sent, as `places`."""
        return self.layout.factors(sums, projection, None, totals=received)


@dataclass(frozen=True, eq=False)
class TestSums:
    """The paper's test on weights whose rows lie whole on a rank.

    Args:
        layout: The local runs; a run's elements are those of a row.
        places: Where the message holds what, `(kinds, weights)`.
        rows: Rows of each whole weight, `(weights,)`.
    """

    layout: Layout
    places: Tensor
    rows: Tensor

    def sent(self, sums: Tensor, projection: Projection) -> Tensor:
        """This rank's share, as `places`, from the sums of its rows, `(4, rows)`."""
        elements = self.layout.spread(self.layout.elements.to(sums.dtype))
        failing = ~passes((sums[0], sums[1], sums[2]), elements, projection, torch.where)
        return self.layout.runs.total(torch.cat([failing.to(sums.dtype)[None], sums]))

    def factors(self, sums: Tensor, received: Tensor, projection: Projection, votes: Votes | None) -> Tensor:
        """The factor of every local row, `(rows,)`, from what all ranks sent, as `places`."""
        failing, ww, gg, wg, wu = received
        by_channel = failing == 0
        elements = (self.layout.elements * self.rows).to(sums.dtype)
        views = by_channel, passes((ww, gg, wg), elements, projection, torch.where) & ~by_channel
        views = views if votes is None else votes.settle(*views)
        return self.layout.factors(sums, projection, views, totals=torch.stack([ww, wu]))


@dataclass(frozen=True, eq=False)
class RowSums:
    """The paper's test on weights whose rows are spread over ranks.

    Args:
        layout: All rows of the whole weights.
        places: Where the message holds what this rank sends, `(kinds, local rows)`.
        all_places: The same of all rows, `(kinds, rows of all weights)`.
        own: The local rows among all rows, `(local rows,)`.
    """

    layout: Layout
    places: Tensor
    all_places: Tensor
    own: Tensor

    def sent(self, sums: Tensor, projection: Projection) -> Tensor:
        """This rank's share, as `places`, from the sums of its rows, `(4, rows)`."""
        return sums

    def factors(self, sums: Tensor, received: Tensor, projection: Projection, votes: Votes | None) -> Tensor:
        """The factor of every local row, `(rows,)`, from what all ranks sent, as `all_places`."""
        return self.layout.keep(received, projection, votes)[self.own]


SharedLayout = BlockSums | TestSums | RowSums


def shared_layout(members: Sequence[Member], device: torch.device) -> SharedLayout:
    """The layout of weights that share the same kinds of sums.

    Args:
        members: One per weight.
        device: Where the weights are.
    """
    kinds = members[0][0].kinds
    places = _places([(shared, start, shared.at) for shared, start in members], device)
    if kinds == BLOCK_SUMS:
        return BlockSums(_local_runs(members, device), places)
    if kinds == TEST_SUMS:
        rows = torch.tensor([float(shared.shape[0]) for shared, _ in members], dtype=torch.float64, device=device)
        return TestSums(_local_runs(members, device), places, rows)
    everything = _places([(shared, start, range(shared.slots)) for shared, start in members], device)
    own, before = [], 0
    for shared, _ in members:
        own += [before + i for i in shared.at]
        before += shared.slots
    layout = lay_out(tuple(shared.shape for shared, _ in members), "cosine", device)
    return RowSums(layout, places, everything, torch.tensor(own, dtype=torch.int64, device=device))


def _places(members: Sequence[tuple[SharedSums, int, Sequence[int]]], device: torch.device) -> Tensor:
    """Places in the message of these slots of each weight, `(kinds, slots)`: kind by kind, slot by slot."""
    kinds = members[0][0].kinds
    found = [
        [start + kind * shared.slots + slot for shared, start, slots in members for slot in slots]
        for kind in range(kinds)
    ]
    return torch.tensor(found, dtype=torch.int64, device=device)


def _local_runs(members: Sequence[Member], device: torch.device) -> Layout:
    lengths = [length for shared, _ in members for length in shared.lengths]
    invariant = [x for shared, _ in members for x in shared.invariant]
    elements = [
        float(math.prod(shared.shape) // max(1, shared.shape[0])) for shared, _ in members for _ in shared.lengths
    ]
    return Layout(
        runs=row_blocks(lengths, device),
        owner=torch.tensor(
            [i for i, length in enumerate(lengths) for _ in range(length)], dtype=torch.int64, device=device
        ),
        invariant=None if all(invariant) else torch.tensor(invariant, device=device),
        elements=torch.tensor(elements, dtype=torch.float64, device=device),
    )

"""Watched weights that are spread over ranks: each rank sums its part, and one all-reduce per mesh adds the sums up.

    part of w, d, g, m  --row sums-->  rows of the whole weight, zero where they are not here  --total-->  blocks
    blocks (7, blocks), |w|^2, what the paper's test needs, whether there was a gradient  --a message a mesh-->  record

Ranks that hold copies of the same part (HSDP, tensor parallelism) each send their share. Every rank sends the same
numbers whatever gradients it has, so that messages match.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tangential.backends.dtensor import is_dtensor, local_tensor
from tangential.sharding.local_shard import LocalShard, local_shard
from tangential.sharding.process_groups import process_group
from tangential.telemetry.block_sums import BlockSums
from tangential.telemetry.decision import Decision


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a weight that lies on this rank.

    Args:
        mesh: The device mesh that the weight is spread over.
        placements: How.
        shard: Where the part begins and ends.
        copies: How many ranks hold this part.
    """

    mesh: Any
    placements: tuple[Any, ...]
    shard: LocalShard
    copies: int

    def local(self, x: Any) -> Tensor:
        """This rank's part of a tensor of the weight's shape, which is spread like it first (a message of its own)."""
        if is_dtensor(x) and tuple(x.placements) != self.placements:
            x = x.redistribute(self.mesh, self.placements)
        return local_tensor(x)

    def spread(self, sums: Tensor, dim: int) -> Tensor:
        """Row sums among those of the whole weight, `(kinds, local rows)` to `(kinds, rows)`: this rank's share."""
        start, stop = self.shard.span(dim)
        whole = sums.new_zeros(sums.shape[0], self.shard.shape[dim])
        whole[:, start:stop] = sums / self.copies
        return whole


def part_of(p: Any) -> Part | None:
    """The part of a DTensor that lies here; None for whole weights.

    Raises:
        ValueError: A layout that is not understood.
    """
    if not is_dtensor(p):
        return None
    shard = local_shard(p)
    split = {each.mesh_dim for each in shard.splits}
    copies = math.prod(size for dim, size in enumerate(p.device_mesh.shape) if dim not in split)
    return Part(p.device_mesh, tuple(p.placements), shard, copies)


@dataclass(frozen=True, eq=False)
class Share:
    """What one rank knows of one weight's step.

    Args:
        part: Its part.
        stepped: Whether there was a gradient here.
        decision: What decides whether the step projects the weight; None for other optimizers than ours.
        test: Sums per row that the paper's test needs, `(3, rows)`; None where it is not made.
    """

    part: Part
    stepped: bool
    decision: Decision | None
    test: Tensor | None


def added_up(found: Sequence[tuple[BlockSums, Share | None]]) -> list[BlockSums]:
    """The sums of whole weights, without those that no rank had a gradient for; others stay as they are."""
    by_mesh: dict[Any, dict[int, Tensor]] = {}
    for at, (sums, share) in enumerate(found):
        if share is not None:
            by_mesh.setdefault(share.part.mesh, {})[at] = _flat(sums, share)
    flats: dict[int, Tensor] = {}
    for mesh, own in by_mesh.items():
        flats |= zip(own, _all_reduced(mesh, list(own.values())), strict=True)
    whole = [sums if share is None else _whole(sums, share, flats[at]) for at, (sums, share) in enumerate(found)]
    return [sums for sums in whole if sums is not None]


def _all_reduced(mesh: Any, flats: Sequence[Tensor]) -> Sequence[Tensor]:
    """These numbers, added up over all ranks of a mesh in one message."""
    group = process_group(mesh, tuple(range(mesh.ndim)))
    kind = torch.device(mesh.device_type) if mesh.device_type != "cpu" else flats[0].device
    together = torch.cat([x.to(kind) for x in flats])
    torch.distributed.all_reduce(together, group=group)
    sizes = [len(x) for x in flats]
    return [x.to(flat.device) for x, flat in zip(together.split(sizes), flats, strict=True)]


def _flat(sums: BlockSums, share: Share) -> Tensor:
    """Everything that is added up, in a row."""
    ends = torch.stack([sums.norm_squared, sums.norm_squared.new_full((), float(share.stepped))])
    test = [] if share.test is None else [share.test.to(sums.sums).flatten()]
    return torch.cat([sums.sums.flatten(), ends.to(sums.sums), *test])


def _whole(sums: BlockSums, share: Share, flat: Tensor) -> BlockSums | None:
    """The whole weight's, from what came back; None if no rank had a gradient."""
    size = sums.sums.numel()
    blocks, (norm_squared, stepped), test = flat[:size], flat[size : size + 2], flat[size + 2 :]
    if not stepped:
        return None
    projected = sums.projected
    if share.decision is not None and share.test is not None:
        projected = share.decision.settled(test.view_as(share.test))
    return replace(sums, sums=blocks.view_as(sums.sums), norm_squared=norm_squared, projected=projected)

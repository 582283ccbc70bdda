"""The part of a weight on each rank: which stretch of every dimension.

torch splits a dimension like `torch.chunk`: the first ranks get `ceil(n / ranks)` indices each, the last ones what is
left, which may be nothing. A dimension that several mesh dimensions split is split one after another, in mesh order;
FSDP2 over tensor parallelism is the exception, where the mesh dimension to the right comes first (`_StridedShard`).
All of it follows from shapes that every rank knows, so that all ranks take the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from tangential.backends.dtensor import local_tensor


@dataclass(frozen=True)
class Split:
    """One splitting of a weight.

    Args:
        dim: The dimension of the weight.
        mesh_dim: The dimension of the mesh whose ranks get the parts.
        ranks: How many there are, two at least.
        place: Which part is this rank's.
    """

    dim: int
    mesh_dim: int
    ranks: int
    place: int


@dataclass(frozen=True)
class LocalShard:
    """The part of a weight that lies on this rank.

    Args:
        shape: The shape of the whole weight.
        splits: In the order in which the weight is split.

    Examples:
        >>> shard = LocalShard((7, 3), (Split(dim=0, mesh_dim=0, ranks=2, place=1),))
        >>> shard.span(0), shard.edges(0), shard.local_shape
        ((4, 7), (0, 4, 7), (3, 3))
    """

    shape: tuple[int, ...]
    splits: tuple[Split, ...]

    def span(self, dim: int) -> tuple[int, int]:
        """First index of a dimension that lies here, and last plus one."""
        start, stop = 0, self.shape[dim]
        for split in self._splits_of(dim):
            start, stop = _chunks(start, stop, split.ranks)[split.place]
        return start, stop

    def edges(self, dim: int) -> tuple[int, ...]:
        """Where the part of any rank begins or ends."""
        spans = [(0, self.shape[dim])]
        for split in self._splits_of(dim):
            spans = [chunk for span in spans for chunk in _chunks(*span, split.ranks)]
        return tuple(sorted({edge for span in spans for edge in span}))

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(stop - start for start, stop in map(self.span, range(len(self.shape))))

    def _splits_of(self, dim: int) -> list[Split]:
        return [split for split in self.splits if split.dim == dim]


def _chunks(start: int, stop: int, ranks: int) -> list[tuple[int, int]]:
    size = -(-(stop - start) // ranks)
    edges = [min(start + i * size, stop) for i in range(ranks + 1)]
    return list(pairwise(edges))


def local_shard(p: Any) -> LocalShard:
    """The part of a DTensor that lies on this rank.

    Raises:
        ValueError: A layout that is not understood, or no part of the DTensor's mesh is here.
    """
    found = shard_of(p.shape, p.placements, p.device_mesh)
    here = tuple(local_tensor(p).shape)
    if found.local_shape != here:
        raise ValueError(
            f"a part of shape {here} lies here, but {tuple(p.placements)} on a mesh of {tuple(p.device_mesh.shape)}"
            f" gives {found.local_shape}: make it with `fully_shard`, `parallelize_module` or `distribute_tensor`"
        )
    return found


def shard_of(shape: Sequence[int], placements: Sequence[Any], mesh: Any) -> LocalShard:
    """The part on this rank of a weight of this shape that is placed like this on a device mesh.

    Raises:
        ValueError: A layout that is not understood, or this rank is not in the mesh.
    """
    place = mesh.get_coordinate()
    if place is None:
        raise ValueError("this rank is not in its device mesh: give each rank the parameters it holds")
    return _local_shard(tuple(shape), tuple(placements), tuple(mesh.shape), tuple(place))


@lru_cache(maxsize=4096)
def _local_shard(
    shape: tuple[int, ...], placements: tuple[Any, ...], mesh: tuple[int, ...], place: tuple[int, ...]
) -> LocalShard:
    return LocalShard(shape, tuple(_splits(shape, placements, mesh, place)))


def _splits(shape: Sequence[int], placements: Sequence[Any], mesh: Sequence[int], place: Sequence[int]) -> list[Split]:
    """The splits in the order in which they apply: one with a split factor waits for that many parts right of it."""
    found: list[Split] = []
    waiting: list[tuple[Split, int]] = []
    for i, placement in enumerate(placements):
        if placement.is_partial():
            raise ValueError(f"its placements {tuple(placements)} hold partial sums: redistribute it first")
        if placement.is_replicate():
            continue
        split = Split(placement.dim % len(shape), i, mesh[i], place[i])
        factor = getattr(placement, "split_factor", 1)
        if factor > 1:
            waiting.append((split, factor))
            continue
        found.append(split)
        waiting = [(w, left // split.ranks if w.dim == split.dim else left) for w, left in waiting]
        found += [w for w, left in waiting if left == 1]
        waiting = [(w, left) for w, left in waiting if left != 1]
    if waiting:
        raise ValueError(f"its placements {tuple(placements)} on a mesh of {tuple(mesh)} are not understood")
    return [split for split in found if split.ranks > 1]

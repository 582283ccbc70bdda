"""What the step of a sharded weight depends on: its own part alone, or sums that ranks add up.

    nothing is projected                       own part        blocks=None, vectors under the paper's test
    no block is spread over ranks              own part        static blocks that lie whole on a rank
    a block is spread over ranks               shared sums     ww, wu of every block: 8 bytes a block in float32
    the paper's test, rows whole on a rank     shared sums     how many rows fail, ww, gg, wg, wu: 20 bytes a weight
    the paper's test, rows spread over ranks   shared sums     ww, gg, wg, wu of every row: 16 bytes a row

The test needs the largest cosine of all rows only to compare it with a bound, so ranks add up how many rows are not
below it: a sum like the others, in the same message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tangential.backends.dtensor import is_dtensor
from tangential.blocks import Blocks
from tangential.sharding.local_shard import LocalShard, local_shard
from tangential.sharding.process_groups import process_group

BLOCK_SUMS, TEST_SUMS, ROW_SUMS = 2, 5, 4
"""How many kinds of sums are shared: of known blocks, of a test on whole rows, of a test on rows that are spread."""


@dataclass(frozen=True)
class LocalBlocks:
    """A weight whose part is stepped like a weight of its own.

    Args:
        blocks: The blocks of the part; "cosine" or "sticky" where the part is the whole weight.
    """

    blocks: Blocks | str | None


@dataclass(frozen=True, eq=False)
class SharedSums:
    """A weight whose ranks add up sums.

    Args:
        shape: The shape of the whole weight.
        kinds: `BLOCK_SUMS`, `TEST_SUMS` or `ROW_SUMS`.
        slots: Sums of each kind: blocks, 1, or rows of the whole weight.
        lengths: Rows of each local run, the rows that share one slot.
        at: The slot of each local run.
        invariant: Whether it is projected.
        mesh_dims: The mesh dimensions along which the ranks lie that add up.
        group_name: Name of their process group.
    """

    shape: tuple[int, ...]
    kinds: int
    slots: int
    lengths: tuple[int, ...]
    at: tuple[int, ...]
    invariant: tuple[bool, ...]
    mesh_dims: tuple[int, ...]
    group_name: str = ""

    @property
    def numbers(self) -> int:
        """Numbers in the message."""
        return self.kinds * self.slots


Dependence = LocalBlocks | SharedSums


def dependence(shard: LocalShard, blocks: Blocks | str | None) -> Dependence:
    """What the step of a weight depends on that lies like this.

    Args:
        shard: How the weight is spread.
        blocks: Those of its parameter group; they fit the whole weight.

    Examples:
        >>> from tangential.sharding.local_shard import Split
        >>> halves = LocalShard((6, 4), (Split(dim=0, mesh_dim=0, ranks=2, place=0),))
        >>> dependence(halves, Blocks())
        LocalBlocks(blocks=Blocks(dim=0, size=1, segments=None))
        >>> dependence(halves, Blocks(size=2)).slots, dependence(halves, "cosine").numbers
        (3, 5)
    """
    if blocks is None or 0 in shard.shape or (isinstance(blocks, str) and len(shard.shape) < 2):
        return LocalBlocks(None)
    if not shard.splits:
        return LocalBlocks(blocks)
    return _of_blocks(shard, blocks) if isinstance(blocks, Blocks) else _of_test(shard)


def _of_test(shard: LocalShard) -> SharedSums:
    """The paper's test, whose rows are those of dimension 0."""
    first, stop = shard.span(0)
    everywhere = tuple(sorted(split.mesh_dim for split in shard.splits))
    if all(split.dim == 0 for split in shard.splits):
        return SharedSums(shard.shape, TEST_SUMS, 1, (stop - first,), (0,), (True,), everywhere)
    count = stop - first
    return SharedSums(
        shard.shape, ROW_SUMS, shard.shape[0], (1,) * count, tuple(range(first, stop)), (True,) * count, everywhere
    )


def _of_blocks(shard: LocalShard, blocks: Blocks) -> Dependence:
    first, stop = shard.span(blocks.dim)
    across = [split.mesh_dim for split in shard.splits if split.dim != blocks.dim]
    straddling = _straddle(shard, blocks)
    if not across and not straddling:
        return LocalBlocks(_within(blocks, first, stop))
    if straddling:
        across = [split.mesh_dim for split in shard.splits]
    runs = list(_runs(shard.shape, blocks))
    # where no block straddles, the ranks that add up have the same rows, and the others' do not matter
    here = [(i, run) for i, run in enumerate(runs) if run[1] > first and run[0] < stop]
    origin = 0 if straddling or not here else here[0][0]
    return SharedSums(
        shape=shard.shape,
        kinds=BLOCK_SUMS,
        slots=len(runs) if straddling else len(here),
        lengths=tuple(min(end, stop) - max(start, first) for _, (start, end, _) in here),
        at=tuple(i - origin for i, _ in here),
        invariant=tuple(run[2] for _, run in here),
        mesh_dims=tuple(sorted(across)),
    )


def _straddle(shard: LocalShard, blocks: Blocks) -> bool:
    """Whether some block lies on several ranks, along the dimension that is cut. Every rank finds the same."""
    edges, rows = shard.edges(blocks.dim), shard.shape[blocks.dim]
    if blocks.segments is not None:
        return any(a < e < b and (e - a) % size for a, b, size in blocks.segments for e in edges)
    return any(e % (blocks.size or rows) for e in edges if 0 < e < rows)


def _within(blocks: Blocks, first: int, stop: int) -> Blocks | None:
    """The same blocks, of consecutive rows that part none."""
    if blocks.segments is None:
        return blocks
    inside = [(max(a, first) - first, min(b, stop) - first, size) for a, b, size in blocks.segments]
    kept = tuple(segment for segment in inside if segment[0] < segment[1])
    return Blocks(blocks.dim, segments=kept) if kept else None


def _runs(shape: tuple[int, ...], blocks: Blocks) -> Iterator[tuple[int, int, bool]]:
    """`(first row, last plus one, whether invariant)` of every block, and of the stretches of rows between them."""
    at = 0
    for start, stop in blocks.spans(shape):
        if start > at:
            yield at, start, False
        yield start, stop, True
        at = stop
    if at < shape[blocks.dim]:
        yield at, shape[blocks.dim], False


def dependence_of(p: Any, blocks: Blocks | str | None) -> Dependence:
    """The same of a parameter, with the process group of the ranks that add up.

    Every rank of its mesh has to call this, since a group may be made.

    Raises:
        ValueError: A layout that is not understood.
    """
    if not is_dtensor(p) or (isinstance(blocks, str) and p.ndim < 2):
        return LocalBlocks(blocks)
    shard = local_shard(p)
    if p.is_complex():  # pairs of real numbers, as the backends see them
        shard = replace(shard, shape=(*shard.shape, 2))
    found = dependence(shard, blocks)
    if isinstance(found, LocalBlocks):
        return found
    return replace(found, group_name=process_group(p.device_mesh, found.mesh_dims).group_name)

"""The part of a weight on a rank is what torch puts there; what a step depends on follows on every rank alike."""

import pytest
import torch
from torch.distributed.tensor import Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from support.shard_layouts import real_parts
from tangential import Blocks
from tangential.sharding.dependence import LocalBlocks, SharedSums, dependence
from tangential.sharding.local_shard import LocalShard, Split, _local_shard


def over(shape, dim, ranks, place, mesh_dim=0):
    return LocalShard(shape, (Split(dim, mesh_dim, ranks, place),))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 3, 5, 6, 7, 13, 14, 16])
def test_parts_are_where_torch_puts_them(four, rows):
    for here in four(real_parts, rows):
        assert here == []  # the layouts in which the part differs


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 13])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_parts_of_all_ranks_are_the_whole(rows, ranks):
    spans = [over((rows, 2), 0, ranks, place).span(0) for place in range(ranks)]
    assert spans == [
        (start[0, 0].item() if len(start) else rows, start[-1, 0].item() + 1 if len(start) else rows)
        for start in [*torch.arange(rows)[:, None].chunk(ranks), *[torch.empty(0, 1)] * ranks][:ranks]
    ]


@pytest.mark.parametrize("rows", [5, 8, 13])
def test_a_strided_split_applies_after_the_one_to_its_right(rows):
    placed = (_StridedShard(0, split_factor=2), Shard(0))
    parts = [_local_shard((rows, 2), placed, (2, 2), (i, j)).span(0) for j in range(2) for i in range(2)]
    assert parts == [
        _local_shard((rows, 2), (Shard(0), Shard(0)), (2, 2), (j, i)).span(0) for j in range(2) for i in range(2)
    ]


def test_layouts_that_are_not_understood_are_refused():
    with pytest.raises(ValueError, match="partial sums"):
        _local_shard((4, 4), (Partial(),), (2,), (0,))
    with pytest.raises(ValueError, match="not understood"):
        _local_shard((4, 4), (_StridedShard(0, split_factor=4), Replicate()), (2, 2), (0, 0))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("rows", "blocks", "straddles"),
    [
        (8, Blocks(), False),
        (8, Blocks(size=4), False),
        (8, Blocks(size=2), False),
        (6, Blocks(size=2), True),
        (8, Blocks(size=None), True),
        (1, Blocks(size=None), False),
        (8, Blocks(segments=((0, 4, 2), (6, 8, 2))), False),
        (8, Blocks(segments=((2, 6, 4),)), True),
        (8, Blocks(segments=((0, 2, 1),)), False),
    ],
)
def test_every_rank_finds_alike_whether_a_block_is_spread(place, rows, blocks, straddles):
    found = dependence(over((rows, 3), 0, 2, place), blocks)
    assert isinstance(found, SharedSums) == straddles


def test_blocks_that_lie_whole_on_a_rank_are_those_of_its_part():
    segments = Blocks(segments=((0, 4, 2), (6, 8, 2)))
    assert dependence(over((8, 3), 0, 2, 0), segments) == LocalBlocks(Blocks(segments=((0, 4, 2),)))
    assert dependence(over((8, 3), 0, 2, 1), segments) == LocalBlocks(Blocks(segments=((2, 4, 2),)))
    assert dependence(over((8, 3), 0, 2, 1), Blocks(segments=((0, 2, 1),))) == LocalBlocks(None)


@pytest.mark.parametrize("blocks", ["cosine", "sticky", None])
def test_vectors_and_what_is_not_projected_share_nothing(blocks):
    assert dependence(over((8,), 0, 2, 0), blocks) == LocalBlocks(None)


@pytest.mark.parametrize(
    ("shape", "dim", "blocks", "numbers"),
    [
        ((8, 3), 0, "cosine", 5),
        ((8, 3), 1, "cosine", 4 * 8),
        ((8, 3), 1, Blocks(), 2 * 8),
        ((8, 3), 1, Blocks(size=None), 2),
        ((6, 3), 0, Blocks(size=2), 2 * 3),
    ],
)
def test_numbers_shared_are_those_of_the_cost_model(shape, dim, blocks, numbers):
    assert dependence(over(shape, dim, 2, 0), blocks).numbers == numbers


def test_rows_that_no_block_spans_are_added_up_by_the_ranks_that_have_them_alone():
    both = LocalShard((8, 6), (Split(0, 0, 2, 1), Split(1, 1, 2, 0)))
    found = dependence(both, Blocks())
    assert (found.mesh_dims, found.slots, found.at) == ((1,), 4, (0, 1, 2, 3))
    assert dependence(both, Blocks(size=None)).mesh_dims == (0, 1)

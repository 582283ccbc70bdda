"""Steps of sharded weights are those of one process, with no more messages than the sums need."""

import pytest
import torch

from support import sharded
from support.sharded import BLOCKS, ON_FOUR, ON_TWO, matrix_case, message_counts, one_process

pytestmark = pytest.mark.slow

STEPS = 10
BACKENDS = {"chosen": {}, "foreach": dict(foreach=True), "eager": dict(foreach=False)}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
RULES = ("adamp", "sgdp-nesterov")

over_rules = pytest.mark.parametrize("rule", RULES)
over_backends = pytest.mark.parametrize("backend", BACKENDS)
over_dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def same_as_one_process(ranks, rule, layout, dtype, case=matrix_case, kinds=tuple(BLOCKS), **settings):
    """Run the case on every rank; no part of a weight differs more from one process than rounding allows."""
    grads, whole = one_process(rule, kinds, dtype, STEPS)
    results = ranks(case, rule, kinds, dtype, layout, grads, whole, **settings)
    found = [(gap, rank, where) for rank, (gaps, _) in enumerate(results) for where, gap in gaps.items()]
    assert max(found)[0] <= TOLERANCE[dtype], max(found)
    return {backends for _, backends in results}


@over_dtypes
@over_backends
@pytest.mark.parametrize("layout", ON_TWO)
@over_rules
def test_two_ranks_step_as_one_process(two, rule, layout, backend, dtype):
    used = same_as_one_process(two, rule, layout, dtype, **BACKENDS[backend])
    kernel = "fused+foreach" if layout != "replicate" else "fused"  # foreach steps what ranks add up for
    expected = {"foreach": "foreach", "eager": "eager", "chosen": kernel if dtype == torch.float32 else "foreach"}
    assert used == {expected[backend]}


@pytest.mark.parametrize(
    ("backend", "dtype"), [("chosen", torch.float32), ("chosen", torch.float64), ("eager", torch.float64)], ids=str
)
@pytest.mark.parametrize("layout", [layout for layout in ON_FOUR if layout not in ("replicate", "shard1")])
@over_rules
def test_four_ranks_step_as_one_process(four, rule, layout, backend, dtype):
    same_as_one_process(four, rule, layout, dtype, **BACKENDS[backend])


@pytest.mark.parametrize(("kind", "foreach"), [("cosine", None), ("layer", False)])
def test_a_compiled_step_is_the_same_without_a_graph_break(two, kind, foreach):
    grads, whole = one_process("adamp", (kind,), torch.float32, 3)
    for gaps in two(sharded.compiled, kind, grads, whole, foreach=foreach):
        assert max(gaps.values()) <= 1e-6


@pytest.mark.parametrize("settings", [dict(maximize=True), dict(capturable=True)], ids=str)
@over_rules
def test_settings_hold_on_shards(two, rule, settings):
    grads, whole = one_process(rule, tuple(BLOCKS), torch.float64, STEPS, **settings)
    results = two(matrix_case, rule, tuple(BLOCKS), torch.float64, "shard0", grads, whole, **settings)
    assert max(gap for gaps, _ in results for gap in gaps.values()) <= 1e-12


@over_rules
def test_a_tensor_as_learning_rate_and_a_schedule_hold_on_shards(two, rule):
    results = two(sharded.scheduled, rule)
    assert max(results) <= 1e-12


MESSAGES = {  # of one step, by kind of blocks and layout
    "channel": {"shard0": 0, "hsdp": 0, "shard0x0": 0, "shard0x1": 1, "replicate": 0},
    "none": dict.fromkeys(ON_FOUR, 0),
    "layer": {"shard0": 1, "shard1": 1, "hsdp": 1, "shard0x0": 1, "replicate": 0},
    "heads": {"shard0": 1, "shard1": 1, "hsdp": 1, "replicate": 0},
    "dim1": {"shard0": 1, "shard1": 0, "shard1xreplicate": 0},
    "cosine": {"shard0": 1, "shard1": 1, "hsdp": 1, "shard0x1": 1, "shard0x0": 1, "replicate": 0},
}


@pytest.mark.parametrize(("kind", "layout"), [(kind, layout) for kind in MESSAGES for layout in MESSAGES[kind]])
def test_a_step_sends_one_message_or_none(four, kind, layout):
    grads, _ = one_process("adamp", (kind,), torch.float64, 1)
    for counts in four(message_counts, "adamp", kind, layout, grads):
        assert sum(counts.values()) == MESSAGES[kind][layout]
        assert all("all_reduce" in name for name in counts)  # never a gather


def test_each_set_of_ranks_that_shares_a_weight_gets_one_message(four):
    # under one block per weight: all ranks, those of a vector's mesh dimension, those of a single row that is split
    grads, _ = one_process("adamp", ("layer",), torch.float64, 1)
    assert {sum(x.values()) for x in four(message_counts, "adamp", "layer", "shard0x1", grads)} == {3}


def test_bytes_of_the_message_are_those_of_the_cost_model(four):
    assert set(four(sharded.message_bytes)) == {
        (
            ("cosine", 6 * 20, "shard0"),  # 20 bytes a weight with two dimensions or more
            ("cosine", (8 + 7 + 1 + 6 + 3 + 2) * 16, "shard1"),  # 16 a row
            ("layer", 6 * 8, "shard1"),  # 8 a block
            ("channel", 0, "shard0"),
        )
    }


@pytest.mark.parametrize("kind", ["cosine", "layer", "channel", "none"])
@over_rules
def test_a_gradient_missing_on_one_rank_leaves_its_part_still(two, rule, kind):
    for rank, (moved, gap) in enumerate(two(sharded.one_sided, rule, kind)):
        assert moved == (rank == 0)
        assert gap <= 1e-12


def test_gradients_of_other_placements_are_redistributed(two):
    assert max(two(sharded.partial_gradients)) <= 1e-12


def test_replicas_move_bit_for_bit_alike(four):
    bits = four(sharded.replica_bits)
    assert bits[0] == bits[2]
    assert bits[1] == bits[3]


@pytest.mark.parametrize("bad", sharded.REFUSED)
def test_what_cannot_be_stepped_is_refused_before_anything_moves(two, bad):
    for text in two(sharded.refusal, bad):
        assert sharded.REFUSED[bad] in text

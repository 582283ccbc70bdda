"""`watch` of sharded weights reports the norms, steps and angles of whole weights, with one message a record."""

import pytest

from support.sharded_watch import records

pytestmark = pytest.mark.slow

ON_TWO = ("fsdp2", "fsdp2 columns", "fsdp2 offload", "tp")
ON_FOUR = ("fsdp2", "hsdp", "fsdp2 x tp")
KINDS = ("cosine", "detector", "layer", "heads", "none")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ON_TWO)
def test_two_ranks_record_what_one_process_does(two, way, kind):
    check(two(records, way, "adamp", kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ON_FOUR)
def test_four_ranks_record_what_one_process_does(four, way, kind):
    check(four(records, way, "sgdp", kind))


def check(found):
    for worst, count, rank, _ in found:
        assert worst < 1e-8
        assert count == (3 if rank == 0 else 0)


def test_every_rank_has_the_records_if_asked(two):
    assert [
        (count, worst < 1e-8) for worst, count, _, _ in two(records, "fsdp2", "adamp", "cosine", all_ranks=True)
    ] == [(3, True)] * 2


@pytest.mark.parametrize(("way", "messages"), [("fsdp2", 1), ("hsdp", 1)])
def test_a_record_is_one_message(four, way, messages):
    """Beside those of the step, of which blocks along whole rows need none."""
    assert {sent for *_, sent in four(records, way, "adamp", "none")} == {messages}


def test_weights_without_a_gradient_are_left_out_on_every_rank(two):
    check(two(records, "fsdp2", "adamp", "cosine", missing=True))

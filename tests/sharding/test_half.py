"""bfloat16 weights that are spread over ranks keep their remainders: they are stepped as in one process."""

import pytest

from support.sharded_half import half_steps
from tangential import Blocks


@pytest.mark.parametrize("placement", ["rows", "columns", "copies"])
@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None), None], ids=str)
def test_weights_and_remainders_are_those_of_one_process(two, blocks, placement):
    for worst, _ in two(half_steps, "adamp", blocks, placement, "kahan"):
        assert worst < 2e-6


@pytest.mark.parametrize("placement", ["rows", "copies"])
def test_stochastic_rounding_keeps_copies_alike(two, placement):
    found = two(half_steps, "sgdp", Blocks(), placement, "stochastic")
    assert all(worst < 2**-7 for worst, _ in found)
    assert placement == "rows" or all(equal for _, equal in found)


def test_auto_gives_parts_no_remainder_which_no_backend_would_gather(two):
    assert len(two(half_steps, "adamp", "cosine", "rows", "auto")) == 2

"""State of sharded weights: saved and loaded, before the first step too, and checked part by part."""

import pytest

from support import sharded_state
from support.optimizer_makers import every

pytestmark = pytest.mark.slow


@every
@pytest.mark.parametrize("before", [0, 2])
def test_a_sharded_run_goes_on_bit_for_bit_from_its_state(two, name, before):
    for gap, counts in two(sharded_state.resumed, name, before):
        assert gap == 0 and counts == {before}


@every
def test_moments_that_are_not_finite_are_refused_on_their_rank(two, name):
    assert all("not finite" in message for message in two(sharded_state.damaged, name))

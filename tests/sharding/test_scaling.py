"""The messages that the scaling table plans are those that two and four real ranks send."""

import pytest

from support.sharded_scaling import planned_and_sent

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["cosine", "channel", "layer", "heads", "none"])
@pytest.mark.parametrize("layout", ["shard0", "shard1"])
def test_two_ranks_send_what_is_planned(two, layout, kind):
    for planned, sent in two(planned_and_sent, layout, kind):
        assert sent == planned


@pytest.mark.parametrize("kind", ["cosine", "channel", "layer", "heads", "none"])
@pytest.mark.parametrize("layout", ["shard0", "hsdp", "shard0x1", "shard0x0"])
def test_four_ranks_send_what_is_planned(four, layout, kind):
    for planned, sent in four(planned_and_sent, layout, kind):
        assert sent == planned

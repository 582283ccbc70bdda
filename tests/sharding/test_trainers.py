"""A net trained with DDP, ZeRO, FSDP2, HSDP, tensor parallelism and their product ends where one process does."""

import pytest

from support.sharded_nets import beside_one_process, exchanged, flattened

pytestmark = pytest.mark.slow

KINDS = ("cosine", "detector", "channel", "layer", "heads", "none")
ON_TWO = ("ddp", "zero", "fsdp2", "fsdp2 columns", "fsdp2 offload", "fsdp2 mixed", "tp")
ON_FOUR = ("fsdp2", "hsdp", "fsdp2 x tp")

over_optimizers = pytest.mark.parametrize("name", ["adamp", "sgdp"])
over_kinds = pytest.mark.parametrize("kind", KINDS)


@over_kinds
@pytest.mark.parametrize("way", ON_TWO)
@over_optimizers
def test_two_ranks_train_as_one_process(two, name, way, kind):
    assert max(gap for gap, _ in two(beside_one_process, way, name, kind)) <= 1e-12


@over_kinds
@pytest.mark.parametrize("way", ON_FOUR)
@over_optimizers
def test_four_ranks_train_as_one_process(four, name, way, kind):
    assert max(gap for gap, _ in four(beside_one_process, way, name, kind)) <= 1e-12


@pytest.mark.parametrize(
    ("way", "kind", "messages"),
    [
        ("fsdp2", "channel", 0),
        ("fsdp2", "none", 0),
        ("fsdp2", "cosine", 1),
        ("hsdp", "cosine", 1),
        ("hsdp", "channel", 0),
        ("fsdp2 x tp", "cosine", 2),  # weights under tensor parallelism lie on another mesh than the others
        ("fsdp2 x tp", "none", 0),
    ],
)
def test_a_step_sends_one_message_per_mesh_or_none(four, way, kind, messages):
    assert {sent for _, sent in four(beside_one_process, way, "adamp", kind, steps=2)} == {messages}


@over_optimizers
def test_parameters_that_are_exchanged_for_sharded_ones_step_as_before(two, name):
    assert max(two(exchanged, name)) <= 1e-12


@over_optimizers
@pytest.mark.filterwarnings("ignore")  # of transformers and Accelerate, where they are imported
def test_accelerate_trains_and_resumes_fsdp2_as_one_process(two, name, tmp_path):
    pytest.importorskip("accelerate")
    from support.sharded_accelerate import accelerated

    for gap, moved in two(accelerated, name, str(tmp_path)):
        assert gap <= 1e-12
        assert moved > 1e-3


@pytest.mark.parametrize("kind", ["cosine", "channel"])
@pytest.mark.parametrize(("when", "original"), [("before", True), ("after", True), ("after", False)])
def test_flat_parameters_are_refused_with_the_way_out(two, when, original, kind):
    for text in two(flattened, when, kind, original):
        assert "fully_shard" in text
        assert "blocks=None" in text


@pytest.mark.parametrize(("when", "original"), [("before", True), ("after", True), ("after", False)])
def test_flat_parameters_are_stepped_where_nothing_is_projected(two, when, original):
    assert set(two(flattened, when, "none", original)) == {"moved"}

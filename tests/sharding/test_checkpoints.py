"""A run that is saved under one layout goes on under another as if it had not been interrupted."""

import pytest

from support.ranks import Ranks
from support.sharded_checkpoints import load_and_train, newest, save_and_die, train_and_save, uninterrupted

pytestmark = pytest.mark.slow

MOVES = {  # layout and ranks when saved, and when loaded
    "two ranks to one": (("fsdp2", 2), ("ddp", 1)),
    "two ranks to three": (("fsdp2", 2), ("fsdp2", 3)),
    "FSDP2 to tensor parallelism": (("fsdp2", 2), ("tp", 2)),
    "tensor parallelism to FSDP2": (("tp", 2), ("fsdp2", 2)),
    "DDP to FSDP2": (("ddp", 2), ("fsdp2", 2)),
    "FSDP2 to DDP": (("fsdp2", 2), ("ddp", 2)),
}


@pytest.fixture(scope="module")
def worlds():
    found = {size: Ranks(size) for size in (1, 2, 3)}
    yield found
    for ranks in found.values():
        ranks.stop()


def check(results, name, kind, steps):
    expected = uninterrupted(name, kind, steps)
    for weights in results:
        assert all((p - q).abs().max() <= 1e-12 for p, q in zip(weights, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "kind", "has_state"), [("adamp", "cosine", False), ("adamp", "detector", True), ("sgdp", "cosine", True)]
)
@pytest.mark.parametrize("move", MOVES)
def test_a_saved_run_goes_on_under_another_layout(worlds, tmp_path, move, name, kind, has_state):
    (saved, size), (loaded, new_size) = MOVES[move]
    worlds[size](train_and_save, tmp_path / "3", saved, name, kind, 3)
    results = worlds[new_size](load_and_train, tmp_path / "3", loaded, name, kind, 3, 6, has_state=has_state)
    check(results, name, kind, 6)


@pytest.mark.parametrize("name", ["adamp", "sgdp"])
def test_after_a_death_while_saving_the_checkpoint_before_loads(worlds, tmp_path, name):
    worlds[2](train_and_save, tmp_path / "3", "fsdp2", name, "cosine", 3)
    with pytest.raises(AssertionError, match="died"):
        worlds[2](save_and_die, tmp_path / "5", "fsdp2", name, "cosine", 5)
    assert newest(tmp_path) == tmp_path / "3"
    check(worlds[2](load_and_train, newest(tmp_path), "fsdp2", name, "cosine", 3, 6), name, "cosine", 6)

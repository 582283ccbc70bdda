"""Lightning's own settings with ours: precision, clipping, accumulation."""

import pytest

from support.stacks import run

pytest.importorskip("lightning")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SETTINGS = [{"precision": "bf16-mixed"}, {"precision": "bf16-true"}]


@pytest.mark.parametrize("settings", [*SETTINGS, {"gradient_clip_val": 0.5}], ids=str)
def test_the_trainer_resumes_bit_for_bit(settings, tmp_path):
    found = run("lightning_trainer", tmp_path, **settings)
    assert found.trains and found.resumes and found.watched


def test_the_trainer_accumulates(tmp_path):
    found = run("lightning_trainer", tmp_path, accumulate_grad_batches=2)
    assert found.resumes and found.records and found.steps == (8, 8)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_fabric_resumes_bit_for_bit(settings, tmp_path):
    found = run("fabric_loop", tmp_path, **settings)
    assert found.resumes and found.watched

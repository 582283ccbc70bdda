"""peft's adapters: DoRA trains and resumes as LoRA does, and its magnitudes make the adapted weights invariant."""

import pytest

from support.stacks import run

pytest.importorskip("peft")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_dora_resumes_bit_for_bit(tmp_path):
    found = run("peft_lora", tmp_path, use_dora=True)
    assert found.trains and found.resumes and found.watched

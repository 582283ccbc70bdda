"""DeepSpeed's ZeRO stages flatten parameters: the first step states so, and nothing moves."""

import subprocess
import sys

import pytest

from support.stacks import stacks

MISSING = stacks.STACKS["deepspeed_engine"].version is None
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING, reason="`make stacks` installs it")]
CODE = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import deepspeed_engine
deepspeed_engine.train(pathlib.Path(sys.argv[2]), 1, stage=int(sys.argv[3]))
"""


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stages_that_flatten_are_refused(stage, tmp_path):
    command = [sys.executable, "-c", CODE, str(stacks.EXAMPLES), str(tmp_path), str(stage)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode and "as FSDP1, DeepSpeed ZeRO and flat buffers make them" in done.stderr

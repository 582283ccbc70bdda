"""Keras models on torch: found in training mode, under their own names, whatever their copies are called."""

import subprocess
import sys

import pytest

from support.stacks import stacks

MISSING = stacks.STACKS["keras_model"].version is None
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING, reason="`make stacks` installs it")]
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from keras_model import *
from tangential import Blocks
norms = [layers.BatchNormalization(), layers.GroupNormalization(2)]
body = [layers.Conv2D(8, 3, use_bias=False), norms[0], layers.ReLU(), layers.Conv2D(8, 3, use_bias=False), norms[1]]
for kind in (keras.Sequential, Classifier):
    model = kind([layers.Input((8, 8, 3)), *body])
    kernels = [n for n, _ in model.named_parameters() if n.endswith("kernel")]
    for found in (find_invariances(model, x[:8]), find_invariances(model, forward=lambda m: m(x[:8], training=True))):
        assert list(found) == [n for n, _ in model.named_parameters()]
        assert [found[n] for n in kernels] == [Blocks(dim=3), Blocks(dim=3, size=4)], str(found)
    found = find_invariances(model, x[:8], training=False)
    assert [found[n] for n in kernels] == [None, Blocks(dim=3, size=4)], str(found)
    assert len([p for group in found.param_groups(model) for p in group["params"]]) == 6
print("done")
"""


def test_modes_and_names():
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(stacks.EXAMPLES)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "done", done.stderr

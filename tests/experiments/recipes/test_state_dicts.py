"""Checkpoints of version 0.1 fit today's models: the names and shapes of every kind of net have not changed."""

import hashlib
import json
from pathlib import Path

import pytest

from tangential.experiments.recipes import RECIPES

FORMER = json.loads((Path(__file__).parents[2] / "support" / "state_dicts_of_0_1.json").read_text())


@pytest.mark.parametrize("name", FORMER)
def test_names_and_shapes_of_a_state_dict_are_those_of_version_0_1(name):
    state = RECIPES[name].task.smoke().model().state_dict()
    text = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert len(state) == FORMER[name]["entries"]
    assert hashlib.sha256(text.encode()).hexdigest() == FORMER[name]["sha256"], text

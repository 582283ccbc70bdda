"""The examples of trainers, and what running them gives: `benchmarks/stacks.py`, which also writes docs/trainers.md."""

import importlib.util
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

_spec = importlib.util.spec_from_file_location("stacks", ROOT / "benchmarks" / "stacks.py")
stacks = importlib.util.module_from_spec(_spec)
sys.modules["stacks"] = stacks  # dataclasses look their module up
_spec.loader.exec_module(stacks)

HEAVY = {"fastai_learner", "keras_model", "deepspeed_engine"}
"""Stacks outside the extra `dev`, which `make stacks` installs; they change settings of the process they run in."""


def run(name, folder, two=None, **settings):
    """The outcome of an example; skipped where its library is missing.

    Args:
        name: Which.
        folder: Where its checkpoints go.
        two: The world that runs those that need two processes.
        **settings: More arguments of its `train`.
    """
    stack = stacks.STACKS[name]
    if stack.version is None:
        pytest.skip(f"{stack.package} is not installed; `make stacks` installs it")
    if name in HEAVY:
        return stacks.measured(name, folder)
    if stack.processes > 1:
        return two(outcome, name, str(folder))[0]
    return stacks.outcome(name, folder, **settings)


def outcome(name, folder):
    """The outcome of an example in this process, one of several."""
    return stacks.outcome(name, Path(folder))

"""The examples of trainers, and what running them gives: `benchmarks/stacks.py`, which also writes docs/trainers.md."""

import importlib.util
import sys

import pytest

from support.paths import ROOT

_spec = importlib.util.spec_from_file_location("stacks", ROOT / "benchmarks" / "stacks.py")
stacks = importlib.util.module_from_spec(_spec)
sys.modules["stacks"] = stacks  # dataclasses look their module up
_spec.loader.exec_module(stacks)

HEAVY = {"fastai_learner", "keras_model", "deepspeed_engine"}
"""Stacks outside the extra `dev`, which `make stacks` installs; they change settings of the process they run in."""


def run(name, folder, **settings):
    """The outcome of an example, in processes of its own where it needs them; skipped where its library is missing."""
    stack = stacks.STACKS[name]
    if stack.version is None:
        pytest.skip(f"{stack.package} is not installed; `make stacks` installs it")
    if name in HEAVY or stack.processes > 1:
        return stacks.measured(name, folder)
    return stacks.outcome(name, folder, **settings)

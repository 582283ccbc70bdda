"""One seed for every test, and one thread, so that tests run side by side without fighting for cores."""

import importlib

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def kernel_alone(monkeypatch):
    """Fails a test in which something is left to foreach."""
    choose = importlib.import_module("tangential.backends.choose")  # the package has a function of this name
    monkeypatch.setattr(choose, "foreach", lambda batch: pytest.fail("a weight was left to foreach"))

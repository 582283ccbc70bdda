"""One seed for every test, and one thread, so that tests run side by side without fighting for cores."""

import sys

import pytest
import torch

import tangential.backends.choose  # noqa: F401 - it is in sys.modules then


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def as_elsewhere(monkeypatch):
    """Steps on the CPU as on any other device. There reading is free, and the test is read."""
    choose = sys.modules["tangential.backends.choose"]  # the package has a function of that name
    monkeypatch.setattr(choose, "chunked", choose.foreach)

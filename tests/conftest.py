"""One seed for every test, one thread, so that tests run side by side, and the worlds of processes that they share."""

import importlib
import os

import pytest
import torch
from hypothesis import settings

from support.ranks import Ranks

# The same examples in every run of the suite; TANGENTIAL_FUZZ=N draws N new ones.
settings.register_profile("suite", derandomize="TANGENTIAL_FUZZ" not in os.environ)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def as_elsewhere(monkeypatch):
    """Steps on the CPU as on any other device. There reading is free, and the test is read."""
    choose = importlib.import_module("tangential.backends.choose")  # the package has a function of this name
    monkeypatch.setattr(choose, "chunked", choose.foreach)


@pytest.fixture
def kernel_alone(monkeypatch):
    """Fails a test in which something is left to the path without a kernel."""
    choose = importlib.import_module("tangential.backends.choose")
    for name in ("foreach", "chunked"):
        monkeypatch.setattr(choose, name, lambda batch: pytest.fail("a weight was left to foreach"))


@pytest.fixture(scope="session")
def two():
    """Two processes for all tests that need them."""
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def four():
    """Four processes for all tests that need them."""
    ranks = Ranks(4)
    yield ranks
    ranks.stop()

"""One seed for every test, and one thread, so that tests run side by side without fighting for cores."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)

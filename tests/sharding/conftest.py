"""How much of the matrices of sharding is run."""

import os
from itertools import groupby

SAMPLED = 8
"""One in so many cases of a matrix is run by default; `make sharding` runs them all."""


def pytest_collection_modifyitems(config, items):
    """Leave a sample of each large matrix, whose cases differ from function to function by the place they begin at."""
    if "TANGENTIAL_MATRIX" in os.environ:
        return
    dropped = []
    for begin, (_, cases) in enumerate(groupby(items, key=lambda item: getattr(item, "originalname", None))):
        cases = [item for item in cases if "sharding" in item.path.parts and item.get_closest_marker("slow")]
        if len(cases) > 2 * SAMPLED:
            dropped += [item for i, item in enumerate(cases) if i % SAMPLED != begin % SAMPLED]
    gone = set(dropped)
    items[:] = [item for item in items if item not in gone]
    config.hook.pytest_deselected(items=dropped)

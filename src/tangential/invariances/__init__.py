"""The detector: which weights of a model are scale-invariant, in which blocks, and why.

`find_invariances` analyses a float64 copy of a model on one batch and returns `Invariances`, a mapping from parameter
names to `Blocks`. Nothing here steps a weight, and nothing imports the optimizers or the training system.
"""

from tangential.invariances.find import find_invariances
from tangential.invariances.result import Invariances

__all__ = ["Invariances", "find_invariances"]

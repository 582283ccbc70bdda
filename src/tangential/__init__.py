"""Training on scale-invariant weights: SGDP and AdamP, and which weights they should project."""

from tangential.blocks import Blocks
from tangential.invariances import Invariances, find_invariances
from tangential.optimizers import SGDP, AdamP

__all__ = ["SGDP", "AdamP", "Blocks", "Invariances", "find_invariances"]
__version__ = "0.1.0"

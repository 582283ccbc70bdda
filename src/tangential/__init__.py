"""Training on scale-invariant weights: SGDP and AdamP, which weights they should project, and what happens."""

from tangential.blocks import Blocks
from tangential.invariances import Invariances, find_invariances
from tangential.optimizers import SGDP, AdamP
from tangential.telemetry import watch

__all__ = ["SGDP", "AdamP", "Blocks", "Invariances", "find_invariances", "watch"]
__version__ = "0.1.0"

"""Training on scale-invariant weights: SGDP and AdamP, and the blocks they project."""

from tangential.blocks import Blocks
from tangential.optimizers import SGDP, AdamP

__all__ = ["SGDP", "AdamP", "Blocks"]
__version__ = "0.1.0"

"""SGDP and AdamP as `torch.optim` optimizers: constructors, parameter groups, state and validation."""

from tangential.optimizers.adamp import AdamP
from tangential.optimizers.sgdp import SGDP

__all__ = ["SGDP", "AdamP"]

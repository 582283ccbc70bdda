"""SGDP and AdamP as `torch.optim` optimizers: constructors, parameter groups, state dicts and their validation.

Arithmetic belongs in `tangential.algorithm`, ways to run it in `tangential.backends`, measuring in
`tangential.telemetry`; neither models nor training loops are known here.
"""

from tangential.optimizers.adamp import AdamP
from tangential.optimizers.export import export_state
from tangential.optimizers.sgdp import SGDP

__all__ = ["SGDP", "AdamP", "export_state"]

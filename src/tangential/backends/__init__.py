"""Backends: the ways to take a step over many tensors (kernel, foreach, one at a time).

They differ in speed and in the order of rounding, never in the formulas, which stand in `tangential.algorithm` alone.
Here belongs what turns tensors into calls; no settings are checked and no state dict is read here (`optimizers`), and
nothing is compiled (`kernels`).
"""

from tangential.backends.aliasing import apart
from tangential.backends.buckets import Bucket
from tangential.backends.choose import choose, in_use, walk
from tangential.backends.fused import DECISION, require_kernel
from tangential.backends.fused_step import FusedStep, unscaled
from tangential.backends.group_step import GroupStep
from tangential.backends.remainders import REMAINDER, compensates, has_remainder
from tangential.backends.sticky import VOTES

__all__ = [
    "DECISION",
    "REMAINDER",
    "VOTES",
    "Bucket",
    "FusedStep",
    "GroupStep",
    "apart",
    "choose",
    "compensates",
    "has_remainder",
    "in_use",
    "require_kernel",
    "unscaled",
    "walk",
]

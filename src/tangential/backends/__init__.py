"""Ways to walk tensors through a step. They differ in speed, never in the arithmetic, which is `algorithm`'s alone."""

from tangential.backends.buckets import Batch, Lot
from tangential.backends.choose import choose, in_use, walk
from tangential.backends.fused_cpu import SAID, Fused, require_kernel
from tangential.backends.fused_cuda import Launched, unscaled
from tangential.backends.sticky import VOTES

__all__ = [
    "SAID",
    "VOTES",
    "Batch",
    "Fused",
    "Launched",
    "Lot",
    "choose",
    "in_use",
    "require_kernel",
    "unscaled",
    "walk",
]

"""Ways to walk tensors through a step. They differ in speed, never in the arithmetic, which is `algorithm`'s alone."""

from tangential.backends.buckets import Bucket, GroupStep
from tangential.backends.choose import choose, in_use, walk
from tangential.backends.fused_cpu import DECISION, Fused, require_kernel
from tangential.backends.fused_cuda import CudaKernel, unscaled
from tangential.backends.sticky import VOTES

__all__ = [
    "DECISION",
    "VOTES",
    "Bucket",
    "CudaKernel",
    "Fused",
    "GroupStep",
    "choose",
    "in_use",
    "require_kernel",
    "unscaled",
    "walk",
]

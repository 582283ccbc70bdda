"""Ways to walk tensors through a step. They differ in speed, never in the arithmetic, which is `algorithm`'s alone."""

from tangential.backends.batch import Batch
from tangential.backends.choose import choose

__all__ = ["Batch", "choose"]

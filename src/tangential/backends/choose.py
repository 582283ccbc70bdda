"""Which backend runs a parameter group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import Parameter

from tangential.backends.batch import Batch
from tangential.backends.eager import eager
from tangential.backends.foreach import foreach


def choose(weights: Sequence[Tensor], *, wanted: bool | None, differentiable: bool) -> Callable[[Batch], None]:
    """The backend for these weights: what was asked for, else foreach for plain tensors, else eager.

    torch's own optimizers default to their for-loop on a CPU. Here foreach is the faster one there too, since it walks
    cache-sized pieces, so it is the default on every device.
    """
    if wanted is not None:
        return foreach if wanted else eager
    plain = all(type(w) in (Tensor, Parameter) for w in weights)
    return foreach if plain and not differentiable else eager

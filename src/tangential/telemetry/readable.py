"""Whether weights have values that can be read now."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


def are_readable(weights: Iterable[Tensor]) -> bool:
    """Whether a record can be made of these weights.

    Not of meta and fake tensors, while a step is traced into a graph, which would hold the measuring for good, or
    while a CUDA graph is captured, which nothing may wait for.

    Examples:
        >>> are_readable([torch.ones(2)]), are_readable([torch.ones(2, device="meta")])
        (True, False)
    """
    if any(isinstance(mode, FakeTensorMode) for mode in _get_current_dispatch_mode_stack()):
        return False
    if get_proxy_mode() is not None or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return False
    return not any(weight.is_meta or isinstance(weight, FakeTensor) for weight in weights)

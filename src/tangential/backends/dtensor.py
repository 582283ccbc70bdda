"""DTensors: recognising them without importing torch's tensor parallelism, and the part that lies on this rank."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor


def is_dtensor(x: Any) -> bool:
    """Whether a tensor is a `torch.distributed.tensor.DTensor`, which is what FSDP2 and tensor parallelism make."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local_tensor(x: Any) -> Tensor:
    """The part of a DTensor on this rank, the same object at every call; of any other tensor, itself."""
    return x._local_tensor if is_dtensor(x) else x

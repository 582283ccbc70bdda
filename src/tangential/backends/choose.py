"""Choice of the backend for a parameter group, and the step without a kernel.

Fused is the kernel for the parameters it takes and foreach for the others; under a compiler or a dispatch mode it is
foreach. Plain tensors get one of the two, as do the local parts of DTensors; other subclasses and `differentiable`
steps get eager.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tangential.backends import fused
from tangential.backends.cpu_chunks import chunked
from tangential.backends.dtensor import local_tensor
from tangential.backends.eager import eager
from tangential.backends.foreach import foreach
from tangential.backends.group_step import GroupStep
from tangential.backends.modes import recording
from tangential.backends.tensor_checks import PLAIN


def choose(weights: Sequence[Tensor], group: dict[str, Any]) -> str:
    """The backend for these weights: the group's `fused` or `foreach` if set, else fused or foreach for plain tensors.

    torch's own optimizers default to their for-loop on a CPU. Here foreach is faster there too, since it walks
    cache-sized pieces.
    """
    recorded = recording()
    if group["fused"]:
        return "foreach" if recorded else "fused"
    if group["foreach"] is not None:
        return "foreach" if group["foreach"] else "eager"
    if group["differentiable"]:
        return "eager"
    if not {*map(type, weights)} <= PLAIN:
        weights = list(map(local_tensor, weights))
        if not {*map(type, weights)} <= PLAIN:
            return "eager"
    kernel = group["fused"] is None and not recorded and any(w.is_cpu or _on_cuda(w) for w in weights)
    return "fused" if kernel else "foreach"


def _on_cuda(w: Tensor) -> bool:
    """Whether there is a kernel on the CUDA device of a weight."""
    return w.device.type == fused.CUDA and fused.cuda_missing(w) is None


def walk(group_step: GroupStep) -> None:
    """Take one step, without the kernel."""
    resolved, copies = group_step.without_lazy_bits()
    for bucket in resolved.buckets():
        if group_step.backend == "eager":
            eager(bucket)
        elif bucket.weights[0].is_cpu and not recording():
            chunked(bucket)
        else:
            foreach(bucket)
    for x, copy in copies:
        x.copy_(copy)


def in_use(groups: Sequence[dict[str, Any]]) -> str:
    """Every backend that steps some parameter of these groups, as `fused`, `foreach`, `eager`, or joined by a plus."""
    found: set[str] = set()
    for group in groups:
        name = choose(group["params"], group)
        setting = group["compensation"]
        kernel = [name == "fused" and fused.takes(p, setting) for p in group["params"] if p.numel()]
        found |= {"fused"} if any(kernel) else set()
        found |= {"foreach" if name == "fused" else name} if not all(kernel) else set()
    return "+".join(name for name in ("fused", "foreach", "eager") if name in found)

"""Which backend steps a parameter group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential.backends.buckets import GroupStep
from tangential.backends.cpu_chunks import chunked
from tangential.backends.eager import eager
from tangential.backends.foreach import foreach
from tangential.backends.fused_cpu import takes
from tangential.kernels.cuda import launch


def choose(weights: Sequence[Tensor], group: dict[str, Any]) -> str:
    """The backend for these weights: what was asked for, else fused or foreach for plain tensors, else eager.

    Fused means the kernel for what it takes and foreach for the rest. A compiler traces the step, so it gets foreach.
    torch's own optimizers default to their for-loop on a CPU. Here foreach is faster there too, since it walks
    cache-sized pieces.
    """
    compiling = torch.compiler.is_compiling()
    if group["fused"]:
        return "foreach" if compiling else "fused"
    if group["foreach"] is not None:
        return "foreach" if group["foreach"] else "eager"
    if group["differentiable"] or not {*map(type, weights)} <= {Tensor, Parameter}:
        return "eager"
    kernel = group["fused"] is None and not compiling and any(w.is_cpu or _on_cuda(w) for w in weights)
    return "fused" if kernel else "foreach"


def _on_cuda(w: Tensor) -> bool:
    """Whether there is a kernel on the CUDA device of a weight."""
    return w.device.type == launch.DEVICE and launch.why_missing(w.device) is None


def walk(lot: GroupStep) -> None:
    """Take one step, without the kernel."""
    for batch in lot.buckets():
        if lot.backend == "eager":
            eager(batch)
        elif batch.weights[0].is_cpu and not torch.compiler.is_compiling():
            chunked(batch)
        else:
            foreach(batch)


def in_use(groups: Sequence[dict[str, Any]]) -> str:
    """Every backend that steps some parameter of these groups, as `fused`, `foreach`, `eager`, or joined by a plus."""
    found: set[str] = set()
    for group in groups:
        name = choose(group["params"], group)
        kernel = [name == "fused" and takes(p) for p in group["params"] if p.numel()]
        found |= {"fused"} if any(kernel) else set()
        found |= {"foreach" if name == "fused" else name} if not all(kernel) else set()
    return "+".join(name for name in ("fused", "foreach", "eager") if name in found)

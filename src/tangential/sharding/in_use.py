"""Backends in use for parameters of which some are DTensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Any

from torch.nn.parameter import is_lazy

from tangential import backends
from tangential.backends.dtensor import local_tensor
from tangential.sharding.dependence import SharedSums, dependence_of


def in_use(groups: Sequence[dict[str, Any]]) -> str:
    """Every backend that steps some parameter of these groups: `fused`, `foreach`, `eager`, or several with a plus.

    Weights whose ranks add up sums first are left to foreach by the kernel, which waits for no other rank. Lazy
    parameters are none yet.
    """
    here: list[dict[str, Any]] = []
    for group in groups:
        params = [p for p in group["params"] if not is_lazy(p)]
        joint = [isinstance(dependence_of(p, group["blocks"]), SharedSums) for p in params]
        alone = list(map(not_, joint))
        for chosen, settings in ((alone, {}), (joint, {"fused": False})):
            here.append({**group, **settings, "params": list(map(local_tensor, compress(params, chosen)))})
    return backends.in_use(here)

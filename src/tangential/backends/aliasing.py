"""Gradients that lie in memory which the step writes, their own weight's or another's.

All gradients are read before anything is written, in every backend: so these are copied first. The CPU kernel does this
by addresses, each time a gradient lies elsewhere (`fused_cpu`); here it is done for what no kernel takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from tangential.backends.group_step import GroupStep
from tangential.backends.modes import recording
from tangential.backends.tensor_checks import PLAIN


def apart(group_steps: Sequence[GroupStep]) -> list[GroupStep]:
    """The same with copies of the gradients whose storage is that of a weight or state in one of these steps."""
    if recording():
        return list(group_steps)
    written = _storages(
        chain.from_iterable(
            (*step.weights, *step.steps, *step.votes, *step.remainders, *chain(*step.moments)) for step in group_steps
        )
    )
    return [
        step
        if written.isdisjoint(_storages(step.grads))
        else replace(step, grads=[g if written.isdisjoint(_storages([g])) else g.clone() for g in step.grads])
        for step in group_steps
    ]


def _storages(tensors: Iterable[Tensor]) -> set[int]:
    """Addresses of the storages of plain tensors that have one; tensors of other types are no views of a weight."""
    found = map(Tensor.untyped_storage, (x for x in tensors if type(x) in PLAIN))
    return {*map(torch.UntypedStorage.data_ptr, found)} - {0}

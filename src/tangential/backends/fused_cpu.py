"""The CPU kernel's side of a step: from tensors to addresses and numbers, and one call for all parameters.

    weights, gradients, moments, counts, decisions, votes -> columns of addresses   kept; gradients' are renewed a step
    shapes, strides, blocks                               -> runs, pieces, tasks    `kernels.plan`, kept
    settings of each group                                -> eleven doubles         a step

`fused_step` decides which parameters come here and when the kept ones are made again. No length leaves Python except
through `kernels.plan`, which derives it from the shape that all of a parameter's tensors were checked to have.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from tangential.backends.fingerprint import Columns, addresses
from tangential.backends.fused import (
    States,
    form_of,
    keep_decision,
    runs_of,
    settings_of,
    span,
    storage,
    written,
)
from tangential.backends.group_step import GroupStep
from tangential.backends.sticky import VOTING_STEPS
from tangential.backends.tensor_checks import holds_memory
from tangential.kernels.cpu import Call, library, warn_if_missing
from tangential.kernels.plan import Plan, Run

T = TypeVar("T")


def takes_now(group_step: GroupStep, i: int) -> bool:
    """Whether the CPU kernel steps this parameter with its present gradient and state."""
    near = (group_step.weights[i], group_step.steps[i], *(x[i] for x in (group_step.votes,) if x))
    if not all(x.is_cpu for x in near) or storage(group_step, i) is None or form_of(group_step, i) is None:
        return False
    warn_if_missing()
    return library() is not None


class CpuKernel:
    """The parameters of an optimizer that the CPU kernel steps, planned once.

    Args:
        group_steps: One per parameter group.
        taken: Places of the parameters in each group.
        states: The optimizer's state; gets a decision for every weight under the paper's test.
    """

    def __init__(self, group_steps: Sequence[GroupStep], taken: list[list[int]], states: States) -> None:
        self._taken = taken
        self._everything = all(len(at) == len(x.weights) for at, x in zip(taken, group_steps, strict=True))
        cut: list[Run] = []
        count = 0
        for group, (group_step, at) in enumerate(zip(group_steps, taken, strict=True)):
            for i in at:
                keep_decision(group_step, i, states)
                pair, seen = storage(group_step, i), form_of(group_step, i)
                assert pair is not None and seen is not None, "`takes_now` was asked"
                cut += runs_of(group_step, i, seen, weight=count, group=group, storage=pair)
                count += 1
        self._call = Call(Plan(cut), count)
        self._checked: list[int] = []  # addresses of gradients that are known to be whole, and apart from the rest
        self._written = sorted(
            span(x)
            for group_step, at in zip(group_steps, taken, strict=True)
            for i in at
            for x in (*written(group_step, i), group_step.steps[i])
        )
        self._addresses = array("q")  # columns in the order of `c/table.h`, one entry per weight; 0 where it has none
        for column in zip(*map(_columns, group_steps), strict=True):
            self._addresses.extend(0 if x is None else x.data_ptr() for x in self._of_taken(column))

    def step(self, group_steps: Sequence[GroupStep], columns: Columns) -> None:
        """Take one step of the parameters that were planned.

        Args:
            group_steps: One per parameter group.
            columns: The tensors of these.
        """
        tensors = columns.grads if self._everything else self._of_taken([x.grads for x in group_steps])
        weights = columns.weights if self._everything else self._of_taken([x.weights for x in group_steps])
        grads = addresses(tensors)
        if grads != self._checked:
            tensors = [self._apart(x) for x in tensors]  # copies live until the step is taken
            grads = self._checked = addresses(tensors)
        self._addresses[len(grads) : 2 * len(grads)] = array("q", grads)
        settings = [(*settings_of(x), VOTING_STEPS) for x in group_steps]
        self._call(self._addresses, array("d", chain.from_iterable(settings)))
        torch.autograd.graph.increment_version(weights)

    def _apart(self, grad: Tensor) -> Tensor:
        """A gradient that lies apart from all that the step writes; a copy if it does not.

        Raises:
            ValueError: Its storage is shorter than it.
        """
        if not holds_memory(grad):
            raise ValueError(
                f"a gradient of shape {tuple(grad.shape)} lies in a storage of {grad.untyped_storage().nbytes()} bytes,"
                " which has been resized: compute the gradients again"
            )
        start = grad.data_ptr()
        at = bisect_left(self._written, (start + grad.numel() * grad.itemsize,)) - 1
        return grad.clone() if at >= 0 and self._written[at][1] > start else grad

    def _of_taken(self, column: Sequence[Sequence[T]]) -> list[T]:
        """The entries of the parameters that the kernel takes, one group behind the other."""
        return [entries[i] for entries, at in zip(column, self._taken, strict=True) for i in at]


def _columns(group_step: GroupStep) -> tuple[Sequence[Tensor | None], ...]:
    votes = group_step.votes or [None] * len(group_step.weights)
    first, second = group_step.moments[0], group_step.moments[-1]
    remainders = list(map(group_step.remainder, range(len(votes))))
    return (
        group_step.weights,
        group_step.grads,
        first,
        second,
        group_step.steps,
        group_step.decisions,
        votes,
        remainders,
    )

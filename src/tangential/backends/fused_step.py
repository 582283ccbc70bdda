"""The kernels' part of a step: parameters sorted by the kernel that takes them, once, until a tensor looks different.

`fits` compares all parameters with the `Fingerprint` of the last plan. While it holds, the plans of `fused_cpu` and
`fused_cuda` are right; else `plan` looks at every parameter again. What no kernel takes is returned, for `foreach`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from tangential.backends import fused
from tangential.backends.fingerprint import Columns, Fingerprint
from tangential.backends.fused_cpu import CpuKernel, takes_now
from tangential.backends.group_step import GroupStep
from tangential.backends.tensor_checks import PLAIN

if TYPE_CHECKING:
    from tangential.backends.fused_cuda import CudaKernel


class FusedStep:
    """The kernels of one optimizer, with the plans for its parameters."""

    def __init__(self) -> None:
        self._fingerprint: Fingerprint | None = None
        self._columns: Columns | None = None  # from `fits` or `plan` to `step`: gradients are not to live on in it
        self._cpu: CpuKernel | None = None
        self._cuda: CudaKernel | None = None
        self._left: list[list[int]] = []

    def fits(self, group_steps: Sequence[GroupStep]) -> bool:
        """Whether the parameters are those that the plans were made for, in shape, layout and place.

        Args:
            group_steps: One per parameter group.

        Raises:
            ValueError: A gradient or moment of what no kernel takes does not fit its weight.
        """
        columns = Columns(group_steps)
        known = self._fingerprint is not None and self._fingerprint.holds(columns)
        if not known or (self._cuda is not None and self._cuda.outdated(group_steps)):
            return False
        for rest in self._rest(group_steps):  # a plan compares no memory of what no kernel takes
            rest.check()
        self._columns = columns
        return True

    def plan(self, group_steps: Sequence[GroupStep], states: fused.States) -> None:
        """Sort the parameters by kernel, and plan those of each. They have been checked.

        Args:
            group_steps: One per parameter group.
            states: The optimizer's state; gets a decision for every weight under the paper's test. Step counts of
                weights on CUDA are moved there.

        Raises:
            RuntimeError: A CUDA graph captures the first step of these parameters.
            ValueError: A parameter that the kernel was demanded for and can never step.
        """
        self._fingerprint = None  # should planning raise
        self._sort(group_steps, states)
        self._columns = Columns(group_steps)
        self._fingerprint = Fingerprint(self._columns)

    def take_all(self, group_steps: Sequence[GroupStep]) -> bool:
        """Whether kernels step all of these."""
        return len(group_steps) == len(self._left) and not any(self._left)

    def step(
        self, group_steps: Sequence[GroupStep], scale: Tensor | None = None, found: Tensor | None = None
    ) -> list[GroupStep]:
        """Step what a kernel takes, and return the rest, unscaled. The plans fit.

        Args:
            group_steps: One per parameter group.
            scale: What the gradients are multiplied by.
            found: Not 0 if some gradient overflowed: then nothing changes, the step count neither.

        Raises:
            ValueError: A gradient lies in a storage that does not hold it; nothing has moved then.
        """
        columns, self._columns = self._columns, None
        if self._cuda is not None:
            self._cuda.step(group_steps, scale, found)
        if scale is None and found is None:
            if self._cpu is not None and columns is not None:
                self._cpu.step(group_steps, columns)
            return self._rest(group_steps)
        if self._cpu is not None and (near := unscaled(group_steps, scale, found)):
            self._cpu.step(near, Columns(near))
        return unscaled(self._rest(group_steps), scale, found)

    def _rest(self, group_steps: Sequence[GroupStep]) -> list[GroupStep]:
        """What no kernel takes."""
        return [group_step.only(at) for group_step, at in zip(group_steps, self._left, strict=True) if at]

    def _sort(self, group_steps: Sequence[GroupStep], states: fused.States) -> None:
        near: list[list[int]] = [[] for _ in group_steps]
        self._left = [[] for _ in group_steps]
        far: list[tuple[int, int]] = []
        shared = _shared(group_steps)
        for group, group_step in enumerate(group_steps):
            for i, w in enumerate(group_step.weights):
                if (group, i) in shared:
                    self._leave(group_step, group, i)
                elif w.device.type == fused.CUDA and _fits_cuda(group_step, i):
                    far.append((group, i))
                elif w.device.type != fused.CUDA and takes_now(group_step, i):
                    near[group].append(i)
                else:
                    self._leave(group_step, group, i)
        self._cpu = CpuKernel(group_steps, near, states) if any(near) else None
        self._plan_cuda(group_steps, far, states)

    def _leave(self, group_step: GroupStep, group: int, i: int) -> None:
        if group_step.demanded:
            fused.require_kernel(group_step.weights[i])
        self._left[group].append(i)

    def _plan_cuda(self, group_steps: Sequence[GroupStep], far: list[tuple[int, int]], states: fused.States) -> None:
        if far:
            from tangential.backends.fused_cuda import CudaKernel

            self._cuda = self._cuda or CudaKernel()  # which holds what CUDA graphs were captured with
        if self._cuda is not None:
            self._cuda.plan(group_steps, far, states)


def _shared(group_steps: Sequence[GroupStep]) -> set[tuple[int, int]]:
    """Places of parameters whose weight or moments share memory with those of another, or with each other."""
    spans = sorted(
        (*fused.span(x), group, i)
        for group, group_step in enumerate(group_steps)
        for i, w in enumerate(group_step.weights)
        if w.numel() and type(w) in PLAIN and fused.form(w.shape, w.stride(), 0) is not None
        for x in fused.written(group_step, i)
    )
    found: set[tuple[int, int]] = set()
    for (_, end, *one), (start, _, *other) in pairwise(spans):
        if start < end:
            found |= {(one[0], one[1]), (other[0], other[1])}
    return found


def _fits_cuda(group_step: GroupStep, i: int) -> bool:
    """Whether the CUDA kernel steps this parameter with its present gradient and state."""
    w = group_step.weights[i]
    plain = fused.storage(group_step, i) is not None and fused.form_of(group_step, i) is not None
    return plain and fused.cuda_missing(w) is None


def unscaled(group_steps: Sequence[GroupStep], scale: Tensor | None, found: Tensor | None) -> list[GroupStep]:
    """The same with unscaled gradients, for backends that know no scale; nothing if a gradient overflowed.

    The host waits for that answer, as `torch.amp.GradScaler` does for an optimizer without a kernel.
    """
    if group_steps and found is not None and bool(found):
        return []
    if scale is None:
        return list(group_steps)
    return [
        replace(group_step, grads=[g / scale.to(g.device).reshape(()) for g in group_step.grads])
        for group_step in group_steps
    ]

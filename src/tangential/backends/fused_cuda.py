"""The kernel for the parameters of an optimizer on CUDA devices: one list of launches per device and pair of dtypes.

What a step does is told in `fused` and, for the device, in `kernels.cuda`. The host looks at the tensors, sends what
changed and goes on: step counts, decisions and the scale of the gradients stay on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential.algorithm import Adam
from tangential.backends import fused_cpu as fused
from tangential.backends.buckets import GroupStep
from tangential.backends.fingerprint import Fingerprint
from tangential.backends.sticky import VOTING_STEPS
from tangential.kernels.cuda import launch
from tangential.kernels.cuda.launch import Launch
from tangential.kernels.cuda.plan import Cut
from tangential.kernels.plan import Run

T = TypeVar("T")
Place = tuple[int, int]
"""`(parameter group, place in it)`."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Weights that one list of launches steps, and where they come from."""

    launch: Launch
    taken: list[Place]
    groups: list[int]
    everything: bool

    def of_taken(self, column: Sequence[Sequence[T]]) -> list[T]:
        """What each group has of these weights, one behind the other."""
        if self.everything:
            return list(chain.from_iterable(column))
        return [column[group][i] for group, i in self.taken]


class CudaKernel:
    """What one optimizer's parameters look like to the launches; worked out again only when they look different."""

    def __init__(self) -> None:
        self._look: Fingerprint | None = None
        self._parts: list[Part] = []
        self._left: list[list[int]] = []
        self._held: list[Part] = []  # what CUDA graphs work in

    def step(
        self,
        group_steps: Sequence[GroupStep],
        states: fused.States,
        scale: Tensor | None = None,
        found: Tensor | None = None,
    ) -> list[GroupStep]:
        """Step what is on a device for the launches and fits them, and return the rest.

        Args:
            group_steps: One per parameter group.
            states: The optimizer's state of every parameter; step counts are moved to the device.
            scale: What the gradients are multiplied by.
            found: Not 0 if some gradient overflowed: then nothing changes, the step count neither.

        Raises:
            RuntimeError: A CUDA graph captures the first step of these parameters.
        """
        if not launch.active() or not any(w.device.type == launch.DEVICE for lot in group_steps for w in lot.weights):
            return list(group_steps)
        if self._look is None or not self._look.holds(group_steps):
            self._look = None  # should planning raise
            self._plan(group_steps, states)
            self._look = Fingerprint(group_steps)
        addresses = list(map(_addresses, group_steps))
        settings = [_settings(lot) for lot in group_steps]
        rates = {i: lot.projection.lr for i, lot in enumerate(group_steps) if _on_device(lot.projection.lr)}
        for part in self._parts:
            columns = [part.of_taken(column) for column in zip(*addresses, strict=True)]
            part.launch([*columns, part.groups], settings, rates, scale, found)
            torch.autograd.graph.increment_version(part.of_taken([lot.weights for lot in group_steps]))
            if launch.capturing(group_steps[part.taken[0][0]].weights[part.taken[0][1]].device):
                self._held.append(part)
        return [lot.only(at) for lot, at in zip(group_steps, self._left, strict=True) if at]

    def _plan(self, group_steps: Sequence[GroupStep], states: fused.States) -> None:
        """Sort the parameters by what they can be launched with, and cut them."""
        together: dict[Any, list[Place]] = {}
        self._left = [[] for _ in group_steps]
        for group, lot in enumerate(group_steps):
            for i, w in enumerate(lot.weights):
                dtypes = _dtypes(lot, i)
                if dtypes is None:
                    self._left[group].append(i)
                else:
                    together.setdefault((w.device, *dtypes, _nesterov(lot)), []).append((group, i))
        self._parts = []
        for (device, *dtypes, nesterov), taken in together.items():
            if launch.capturing(device):
                raise RuntimeError(
                    "a CUDA graph captures the first step of these parameters: take one step before the capture, as"
                    " torch's notes on CUDA graphs do, so that nothing has to be compiled or planned in it"
                )
            cut = Cut([run for at, place in enumerate(taken) for run in _runs(group_steps, states, place, at)])
            made = Launch(
                cut,
                device,
                weights=len(taken),
                groups=len(group_steps),
                dtypes=(dtypes[0], dtypes[1]),
                adam=isinstance(group_steps[taken[0][0]].rule(1.0), Adam),
                nesterov=nesterov,
                listen=VOTING_STEPS,
            )
            everything = len(taken) == sum(len(lot.weights) for lot in group_steps)
            groups = [group for group, _ in taken]
            self._parts.append(Part(launch=made, taken=taken, groups=groups, everything=everything))


def _runs(group_steps: Sequence[GroupStep], states: fused.States, place: Place, at: int) -> Iterator[Run]:
    """The runs of a weight, whose step count, decision and votes move to its device."""
    group, i = place
    lot = group_steps[group]
    w, own = lot.weights[i], states[lot.weights[i]]
    if own["step"].device != w.device:
        lot.steps[i] = own["step"] = own["step"].to(w.device, non_blocking=True)
    if isinstance(lot.blocks, str) and w.ndim > 1:
        lot.said[i] = own[fused.DECISION] = fused.as_said(own.get(fused.DECISION), w.device)
    seen = fused.form_of(lot, i)
    assert seen is not None, "only dense weights are taken"
    return fused.runs_of(lot, i, seen, weight=at, group=group, storage=0)


def _dtypes(lot: GroupStep, i: int) -> tuple[torch.dtype, torch.dtype] | None:
    """The dtypes of a weight and its moments, or None if the launches do not take it."""
    w, g, t = lot.weights[i], lot.grads[i], lot.steps[i]
    moments = [moment[i] for moment in lot.moments]
    if w.device.type != launch.DEVICE or fused.reason_against(w) is not None or fused.form_of(lot, i) is None:
        return None
    near = all(x.device == w.device and type(x) in (Tensor, Parameter) for x in (g, *moments))
    alike = g.dtype == w.dtype and len({m.dtype for m in moments}) == 1 and t.dtype == torch.float32
    dtypes = (w.dtype, moments[0].dtype)
    return dtypes if near and alike and dtypes in fused.STORAGE else None


def _nesterov(lot: GroupStep) -> bool:
    return lot.rule(1.0).nesterov


def _on_device(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type != "cpu"


def _settings(lot: GroupStep) -> tuple[float, ...]:
    """Those of `fused`; a learning rate on a device is put in its place there."""
    lr = lot.projection.lr
    return fused.settings_of(lot, 0.0 if _on_device(lr) else float(lr))


def _addresses(lot: GroupStep) -> tuple[list[int], ...]:
    """Where the tensors of each parameter begin, in the order of `layout`; 0 for what it does not have."""
    owned = (lot.weights, lot.grads, lot.moments[0], lot.moments[-1], lot.steps)
    said = [0 if x is None else x.data_ptr() for x in lot.said]
    votes = list(map(Tensor.data_ptr, lot.votes)) or [0] * len(lot.weights)
    return *(list(map(Tensor.data_ptr, column)) for column in owned), said, votes


def unscaled(group_steps: Sequence[GroupStep], scale: Tensor | None, found: Tensor | None) -> list[GroupStep]:
    """What the launches left, for backends that know no scale: no group_steps if a gradient overflowed.

    The host waits for that answer, as `torch.amp.GradScaler` does for an optimizer without a kernel.
    """
    if group_steps and found is not None and bool(found):
        return []
    if scale is None:
        return list(group_steps)
    return [replace(lot, grads=[g / scale.to(g.device).reshape(()) for g in lot.grads]) for lot in group_steps]

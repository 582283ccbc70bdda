"""The CUDA kernel's side of a step: one list of launches per device, pair of dtypes and kind of momentum.

`fused` tells what a step does, `kernels.cuda` how a device does it. Weights are parted by what a launch is compiled
for; of each part the host sends addresses and settings, where they changed, and goes on. Step counts, decisions and the
scale of the gradients stay on the device, so nothing is ever read back. Imported by the first step of a CUDA weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from tangential.algorithm import Adam
from tangential.backends import fused
from tangential.backends.group_step import GroupStep
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
        """The entries of these weights, one group behind the other."""
        if self.everything:
            return list(chain.from_iterable(column))
        return [column[group][i] for group, i in self.taken]


class CudaKernel:
    """The parameters of an optimizer that the CUDA kernel steps, and what CUDA graphs were captured with."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._held: list[Part] = []  # what CUDA graphs work in
        self._nesterov: list[bool] = []

    def step(self, group_steps: Sequence[GroupStep], scale: Tensor | None, found: Tensor | None) -> None:
        """Take one step of the parameters that were planned. See `FusedStep.step`."""
        addresses = list(map(_addresses, group_steps))
        settings = [fused.settings_of(group_step, _sent) for group_step in group_steps]
        there = _settings_there(group_steps)
        for part in self._parts:
            columns = [part.of_taken(column) for column in zip(*addresses, strict=True)]
            part.launch([*columns, part.groups], settings, there, scale, found)
            torch.autograd.graph.increment_version(part.of_taken([x.weights for x in group_steps]))
            if launch.capturing(group_steps[part.taken[0][0]].weights[part.taken[0][1]].device):
                self._held.append(part)

    def outdated(self, group_steps: Sequence[GroupStep]) -> bool:
        """Whether a setting that launches are compiled for has changed."""
        return self._nesterov != [x.rule(1.0).nesterov for x in group_steps]

    def plan(self, group_steps: Sequence[GroupStep], taken: list[Place], states: fused.States) -> None:
        """Part the parameters by what they can be launched with, and cut them."""
        together: dict[Any, list[Place]] = {}
        self._nesterov = [x.rule(1.0).nesterov for x in group_steps]
        for group, i in taken:
            group_step = group_steps[group]
            dtypes = (group_step.weights[i].dtype, group_step.moments[0][i].dtype)
            key = (
                group_step.weights[i].device,
                group_step.rule(1.0).nesterov,
                group_step.remainder(i) is not None,
                *dtypes,
            )
            together.setdefault(key, []).append((group, i))
        self._parts = []
        for (device, nesterov, remainders, *dtypes), places in together.items():
            if launch.capturing(device):
                raise RuntimeError(
                    "a CUDA graph captures the first step of these parameters: take one step before the capture, as"
                    " torch's notes on CUDA graphs do, so that nothing has to be compiled or planned in it"
                )
            cut = Cut([run for at, place in enumerate(places) for run in _runs(group_steps, states, place, at)])
            made = Launch(
                cut,
                device,
                weights=len(places),
                groups=len(group_steps),
                dtypes=(dtypes[0], dtypes[1]),
                adam=isinstance(group_steps[places[0][0]].rule(1.0), Adam),
                nesterov=nesterov,
                remainders=remainders,
                voting_steps=VOTING_STEPS,
            )
            everything = len(places) == sum(len(group_step.weights) for group_step in group_steps)
            groups = [group for group, _ in places]
            self._parts.append(Part(launch=made, taken=places, groups=groups, everything=everything))


def _runs(group_steps: Sequence[GroupStep], states: fused.States, place: Place, at: int) -> Iterator[Run]:
    """The runs of a weight, whose step count and decision move to its device."""
    group, i = place
    group_step = group_steps[group]
    w, own = group_step.weights[i], states[group_step.weights[i]]
    if own["step"].device != w.device:
        group_step.steps[i] = own["step"] = own["step"].to(w.device, non_blocking=True)
    fused.keep_decision(group_step, i, states)
    seen = fused.form_of(group_step, i)
    assert seen is not None, "only dense weights are taken"
    return fused.runs_of(group_step, i, seen, weight=at, group=group, storage=0)


def _on_device(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type != "cpu"


def _sent(x: float | Tensor) -> float:
    """A setting as the host sends it; one on a device is put in its place there."""
    return 0.0 if _on_device(x) else float(x)


def _settings_there(group_steps: Sequence[GroupStep]) -> dict[Place, Tensor]:
    """Settings that are tensors on a device, by group and place among those of `fused`."""
    pairs = [(x.projection.lr, x.projection.decay) for x in group_steps]
    places = {(group, field): x for group, pair in enumerate(pairs) for field, x in enumerate(pair, start=1)}
    return {place: x for place, x in places.items() if _on_device(x)}


def _addresses(group_step: GroupStep) -> tuple[list[int], ...]:
    """Where the tensors of each parameter begin, in the order of `layout`; 0 for what it does not have."""
    first, second = group_step.moments[0], group_step.moments[-1]
    owned = (group_step.weights, group_step.grads, first, second, group_step.steps)
    decisions = [0 if x is None else x.data_ptr() for x in group_step.decisions]
    votes = list(map(Tensor.data_ptr, group_step.votes)) or [0] * len(group_step.weights)
    found = map(group_step.remainder, range(len(decisions)))
    remainders = [0 if x is None else x.data_ptr() for x in found]
    return *(list(map(Tensor.data_ptr, column)) for column in owned), decisions, votes, remainders

"""A parameter group as it was last checked, and the check of what has changed since.

Groups are public dicts: schedulers write settings into them, and DeepSpeed, FSDP and users exchange or resize their
parameters. Blocks that fitted a weight do not fit the flat vector that took its place: every element would be a block,
its whole step radial, and the weight would never move. So each step compares the identities of settings and parameters,
and of shapes what the blocks depend on; only what differs is checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from tangential.backends import GroupStep
from tangential.backends.dtensor import is_dtensor
from tangential.blocks import Blocks
from tangential.optimizers.settings import SETTINGS, check_settings
from tangential.optimizers.validation import (
    check_distinct,
    check_parameter,
    check_reshaped,
    check_state_shapes,
    label,
)
from tangential.sharding import Dependence, Layouts, LocalBlocks, ShardedGroup, ShardedStep, SharedSums

States = MutableMapping[Any, dict[str, Any]]


class CheckedGroup:
    """The settings, parameters and shapes of a group that have been checked.

    Args:
        group: The group. It is checked in full, and its settings get their plain form.

    Raises:
        TypeError: A setting of the wrong type.
        ValueError: A setting out of range, or a parameter that cannot be stepped in this group.
    """

    def __init__(self, group: dict[str, Any]) -> None:
        self.group = group
        self.layouts: Layouts = {}
        self._names = tuple(name for name in SETTINGS if name in group)
        self._values_of: Callable[[Any], tuple[Any, ...]] = itemgetter(*self._names)
        check_settings(group, self._names)
        self._check_params(group, [None] * len(group["params"]))
        self._keep_settings(group)
        self._keep_params(group)

    def _keep_settings(self, group: dict[str, Any]) -> None:
        self._values = self._values_of(group)
        self._filled = [name for name, x in zip(self._names, self._values, strict=True) if _can_be_filled(x)]

    def _keep_params(self, group: dict[str, Any]) -> None:
        self._blocks: Blocks | str | None = group["blocks"]
        self._fused: bool | None = group["fused"]
        self._params: list[Tensor] = list(group["params"])
        self._lazy = any(map(is_lazy, self._params))
        self._specs = [p._spec for p in self._params if is_dtensor(p)]  # type: ignore[attr-defined]
        self._shapes = [None if is_lazy(p) else tuple(p.shape) for p in self._params]
        self._form = [] if self._lazy else _form(self._params, group["blocks"])

    def holds(self, params: Sequence[Tensor]) -> bool:
        """Whether these are the parameters that were checked; their shapes may differ."""
        return len(params) == len(self._params) and all(map(is_, params, self._params))

    def check(self, group: dict[str, Any], state: States, moments: Sequence[str]) -> None:
        """Check what has changed since the last check.

        Args:
            group: The group, which may be another dict that took the place of the first.
            state: The optimizer's state of every parameter.
            moments: Keys of the moments in it.

        Raises:
            TypeError: A setting of the wrong type.
            ValueError: A setting out of range, or parameters that the group does not fit any more.
        """
        values = self._values_of(group)
        if self._filled or not all(map(is_, values, self._values)):
            changed = [name for name, x, old in zip(self._names, values, self._values, strict=True) if x is not old]
            check_settings(group, dict.fromkeys([*changed, *self._filled]))
            self._keep_settings(group)
        params, blocks = group["params"], group["blocks"]
        recut = blocks is not self._blocks and blocks != self._blocks
        same = group["fused"] is self._fused and self.holds(params) and not self._is_spread_anew()
        if self._lazy or recut or not same:
            self._check_params(group, [None] * len(params) if recut else self._before(params))
            check_state_shapes(group, state, moments)
            self._keep_params(group)

    def check_shapes(self, state: States, moments: Sequence[str]) -> None:
        """Check the parameters again if their shapes have changed. `check` has been called before.

        Raises:
            ValueError: Parameters that the group does not fit any more.
        """
        params = self.group["params"]
        if not self._lazy and _form(params, self._blocks) != self._form:
            self._check_params(self.group, self._before(params))
            check_state_shapes(self.group, state, moments)
            self._keep_params(self.group)

    def _check_params(self, group: dict[str, Any], before: Sequence[tuple[int, ...] | None]) -> None:
        check_distinct(group["params"], group)
        found: list[Dependence | None] = []
        for i, (p, shape) in enumerate(zip(group["params"], before, strict=True)):
            if shape is not None and not is_lazy(p):
                check_reshaped(shape, p, group["blocks"], label(group, i))
            found.append(check_parameter(p, group, label(group, i)))
        self._dependences = found
        self.has_dtensors = any(found)

    def _is_spread_anew(self) -> bool:
        """Whether some DTensor lies otherwise than it did; costs nothing where there is none."""
        if not self._specs:
            return False
        specs = [p._spec for p in self._params if is_dtensor(p)]  # type: ignore[attr-defined]
        return not all(map(is_, specs, self._specs))

    def note_gradients(self, grads: Sequence[Tensor | None]) -> None:
        """Note which DTensors have a gradient in the step that begins; `torch.compile` does not trace this."""
        if not self.has_dtensors:
            return
        alone = LocalBlocks(self._blocks)
        pairs = list(zip(self._params, self._dependences, grads, strict=True))
        self._present = [found or alone for _, found, grad in pairs if grad is not None]
        self._members = [
            (p, found)
            for p, found, grad in pairs
            if isinstance(found, SharedSums) and (p.requires_grad or grad is not None)
        ]

    def sharded(self, step: GroupStep) -> ShardedGroup:
        """A step of the group with what its parameters depend on; `note_gradients` has been called before."""
        if not self.has_dtensors:  # as of the norms in a model under tensor parallelism
            return ShardedGroup(step, [LocalBlocks(self._blocks)] * len(step.weights), [])
        return ShardedGroup(step, self._present, self._members)

    def _before(self, params: Sequence[Tensor]) -> list[tuple[int, ...] | None]:
        """The shape that each parameter, or the one whose place it took, had when it was checked; None for new ones."""
        now = set(map(id, params))
        known = dict(zip(map(id, self._params), self._shapes, strict=True))
        gone = [None if id(p) in now else shape for p, shape in zip(self._params, self._shapes, strict=True)]
        # one vector in the place of many parameters stands for the largest rank among them
        joined = max((shape for shape in gone if shape), key=len, default=None) if len(params) < len(gone) else None
        places = [joined or shape for shape in gone] + [None] * len(params)
        return [known[id(p)] if id(p) in known else place for p, place in zip(params, places, strict=False)]


def _form(params: Iterable[Tensor], blocks: Blocks | str | None) -> list[Any]:
    """What blocks depend on, by the cheapest question: shapes, or for the paper's test the numbers of dimensions."""
    if blocks is None:
        return []
    return list(map(Tensor.size if isinstance(blocks, Blocks) else Tensor.dim, params))


def _can_be_filled(value: Any) -> bool:
    """Whether a setting may have another value in the same object."""
    return isinstance(value, Tensor) or (isinstance(value, tuple) and any(isinstance(x, Tensor) for x in value))


def sharded_step(
    known: Collection[CheckedGroup],
    groups: Sequence[dict[str, Any]],
    group_steps: Sequence[GroupStep],
    state: States,
    moments: Sequence[str],
) -> ShardedStep | None:
    """The step of these groups on this rank's parts of their parameters; None if none is a DTensor."""
    if not any(kept.has_dtensors for kept in known):
        return None
    # by identity and without `id`, which the compiler of torch 2.10 does not trace
    checked = [next(kept for kept in known if kept.group is group) for group in groups]
    if not torch.compiler.is_compiling():
        for kept in checked:
            kept.check_shapes(state, moments)
    pairs = zip(checked, group_steps, strict=True)
    return ShardedStep([kept.sharded(group_step) for kept, group_step in pairs], checked[0].layouts)

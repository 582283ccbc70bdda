"""One step of parameters of which some are DTensors.

    GroupStep of DTensors --ShardedStep--> local   GroupSteps of plain tensors, stepped by any backend
                                           joint   weights whose ranks add up sums first

    send      walk over the joint weights: moments, sums of rows; one all-reduce per process group is started
              ... the local weights take their step meanwhile ...
    finish    the sums arrive, every rank decides alike, and the joint weights move

A gradient that is not spread like its weight (`Partial` sums of sequence parallelism) is redistributed first, which is
a message of its own. A rank on which a weight has no gradient does not move its part, but takes part in the message.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tangential.backends.aliasing import apart
from tangential.backends.buckets import Bucket, real
from tangential.backends.dtensor import is_dtensor, local_tensor
from tangential.backends.group_step import GroupStep
from tangential.backends.opmath import to_opmath
from tangential.blocks import Blocks, row_dots
from tangential.sharding.dependence import BLOCK_SUMS, Dependence, LocalBlocks, SharedSums
from tangential.sharding.layouts import Member, SharedLayout, shared_layout
from tangential.sharding.message import Message, messages
from tangential.sharding.walks import move, row_sums

Layouts = MutableMapping[Any, SharedLayout]
"""Layouts of former steps, by what they are of."""


@dataclass(frozen=True)
class ShardedGroup:
    """A parameter group in one step.

    Args:
        step: Its parameters with gradients.
        dependences: What each of those depends on.
        members: All parameters of the group whose ranks share sums, and what they share.
    """

    step: GroupStep
    dependences: list[Dependence]
    members: list[tuple[Tensor, SharedSums]]


@dataclass(frozen=True)
class _Joint:
    """Weights of one bucket that share the same kinds of sums, between `send` and `finish`."""

    bucket: Bucket
    layout: SharedLayout
    message: Message
    sums: Tensor
    singly: bool

    def finish(self) -> None:
        received = self.message.read(getattr(self.layout, "all_places", self.layout.places), self.sums)
        factors = self.layout.factors(self.sums, received, self.bucket.projection, self.bucket.ballot)
        if len(factors):
            move(self.bucket, factors, singly=self.singly)


class ShardedStep:
    """One step of an optimizer some of whose parameters are DTensors.

    Args:
        groups: Its groups.
        layouts: Kept from step to step.

    Attributes:
        local: What is stepped without any message, as plain tensors.
        joint: What is not.
    """

    def __init__(self, groups: Sequence[ShardedGroup], layouts: Layouts) -> None:
        self._layouts = layouts
        self._messages = messages([member for group in groups for member in group.members])
        self.local: list[GroupStep] = []
        self.joint: list[GroupStep] = []
        self._shared: list[list[SharedSums]] = []
        self._absent: list[tuple[Tensor, SharedSums, GroupStep]] = []
        self._waiting: list[_Joint] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._owners: dict[Tensor, Tensor] = {}
        for group in groups:
            self._part(group)

    def _part(self, group: ShardedGroup) -> None:
        """Sort the parameters of a group by what they depend on."""
        step = _localized(group.step)
        self._owners |= dict(zip(step.weights, group.step.weights, strict=True))
        alone: dict[Blocks | str | None, list[int]] = {}
        joint: dict[tuple[str, int], list[int]] = {}
        for i, found in enumerate(group.dependences):
            if isinstance(found, LocalBlocks):
                alone.setdefault(found.blocks, []).append(i)
            else:
                joint.setdefault((found.group_name, found.kinds), []).append(i)
        for blocks, at in alone.items():
            self.local.append(replace(step.only(at), blocks=blocks))
        for at in joint.values():
            self.joint.append(step.only(at))
            self._shared.append([found for i in at if isinstance(found := group.dependences[i], SharedSums)])
        present = {id(found) for found in group.dependences}
        self._absent += [(p, shared, step) for p, shared in group.members if id(shared) not in present]

    def states(self, states: MutableMapping[Tensor, dict[str, Any]]) -> dict[Tensor, dict[str, Any]]:
        """The optimizer's state by local tensor."""
        return {here: states[p] for here, p in self._owners.items()}

    def send(self) -> None:
        """Write the moments of the joint weights and start the messages; their step counts go up."""
        for step, shared in zip(apart(self.joint), self._shared, strict=True):
            resolved, copies = step.without_lazy_bits()
            self._copies += copies
            for at, bucket in resolved.placed_buckets():
                self._contribute(bucket, [shared[i] for i in at], singly=step.backend == "eager")
        for p, shared, step in self._absent:
            self._stand_in(p, shared, step)
        for message in self._messages.values():
            message.send()

    def finish(self) -> None:
        """Move the joint weights, once the messages are here."""
        for message in self._messages.values():
            message.receive()
        for joint in self._waiting:
            joint.finish()
        for x, copy in self._copies:
            x.copy_(copy)

    def _contribute(self, bucket: Bucket, shared: list[SharedSums], *, singly: bool) -> None:
        message = self._messages[shared[0].group_name]
        layout = self._layout([(x, message.starts[x]) for x in shared], bucket.weights[0].device)
        sums = row_sums(bucket, singly=singly)
        message.write(layout.places, layout.sent(sums, bucket.projection))
        self._waiting.append(_Joint(bucket, layout, message, sums, singly))

    def _stand_in(self, p: Tensor, shared: SharedSums, step: GroupStep) -> None:
        """The share of a part that does not move: its length counts, and its gradient and direction are zero."""
        w = to_opmath(real(local_tensor(p)))
        message = self._messages[shared.group_name]
        layout = self._layout([(shared, message.starts[shared])], w.device)
        ww = row_dots(w, w, step.blocks.dim if isinstance(step.blocks, Blocks) else 0)
        nothing = [torch.zeros_like(ww)] * (1 if shared.kinds == BLOCK_SUMS else 3)
        message.write(layout.places, layout.sent(torch.stack([ww, *nothing]), step.projection))

    def _layout(self, members: list[Member], device: torch.device) -> SharedLayout:
        if torch.compiler.is_compiling():
            return shared_layout(members, device)
        key = (device, *members)
        if key not in self._layouts:
            self._layouts[key] = shared_layout(members, device)
        return self._layouts[key]


def _localized(step: GroupStep) -> GroupStep:
    """The same with this rank's parts."""
    grads = [_like(g, w) for g, w in zip(step.grads, step.weights, strict=True)]
    return replace(
        step,
        weights=list(map(_local, step.weights)),
        grads=list(map(_local, grads)),
        moments=tuple([_spread(m, w) for m, w in zip(moment, step.weights, strict=True)] for moment in step.moments),
        remainders=[_spread(x, w) for x, w in zip(step.remainders, step.weights, strict=False)],
    )


def _local(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling() and is_dtensor(x):
        return x.to_local()  # type: ignore[attr-defined]
    return local_tensor(x)


def _like(g: Any, w: Any) -> Tensor:
    """A gradient that is spread like its weight."""
    if not is_dtensor(w):
        return g
    if not is_dtensor(g):
        raise ValueError(
            f"a plain gradient of shape {tuple(g.shape)} came for a sharded parameter of shape {tuple(w.shape)}: it"
            " must be a DTensor, as backward makes it; `distribute_tensor` makes one"
        )
    return g if g.placements == w.placements else g.redistribute(w.device_mesh, w.placements)


def _spread(moment: Any, w: Any) -> Tensor:
    """This rank's part of a moment that is spread like its weight."""
    alike = is_dtensor(moment) == is_dtensor(w) and (not is_dtensor(w) or moment.placements == w.placements)
    if not alike:
        raise ValueError(
            f"a parameter of shape {tuple(w.shape)} and its moments are not spread over ranks alike: load optimizer"
            " state with `torch.distributed.checkpoint.state_dict.set_optimizer_state_dict`, which redistributes it"
        )
    return _local(moment)

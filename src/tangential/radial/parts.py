"""Which weights a wrapper treats, in parts: weights of one group and kind that are stepped, and copied, together.

    invariances, groups   --BlockFinder-->   blocks of every parameter   --Partition-->   parts, and the rest by group

A part holds at most as many elements as the largest treated weight, so the copy of a part is never larger than that
weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from tangential.blocks import Blocks
from tangential.invariances import Invariances
from tangential.invariances.parameter_names import unprefixed
from tangential.optimizers.validation import check_parameter, is_flat, label

Group = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Part:
    """Weights that are treated together: of one group, with the same blocks, dtype and device.

    Args:
        group: Their parameter group.
        blocks: Their blocks, or "cosine" for the paper's test.
        params: The parameters.
    """

    group: Group
    blocks: Blocks | str
    params: list[Tensor]

    def with_gradient(self) -> Part:
        """The part without the parameters that will not step."""
        return Part(self.group, self.blocks, [p for p in self.params if p.grad is not None])


class Partition:
    """The parts of an optimizer's groups, as long as its parameters are the same.

    Args:
        groups: The parameter groups.
        finder: Finds the blocks of a parameter.
        known_only: Whether the policy needs blocks that are known.
        policy: What errors call it.

    Raises:
        ValueError: Blocks that do not fit, or parameters that cannot be treated.
    """

    def __init__(self, groups: Sequence[Group], finder: BlockFinder, *, known_only: bool, policy: str) -> None:
        self._signature = _signature(groups)
        self._lazy = any(is_lazy(p) for group in groups for p in group["params"])
        places = [(p, group, label(group, i)) for group in groups for i, p in enumerate(group["params"])]
        chosen = {place[0]: finder.find(*place) for place in places}
        self.blocks = {p: blocks for p, blocks in chosen.items() if blocks is not None}
        if known_only and "cosine" in self.blocks.values():
            raise ValueError(
                f"{policy} must treat a weight at every step, and the cosine test decides anew at each: pass"
                " invariances=find_invariances(model, batch), a Blocks, or parameters with their Blocks"
            )
        largest = max((p.numel() for p in self.blocks), default=0)
        self.parts = [part for group in groups for part in _parts(group, self.blocks, largest)]
        self.rest = [[p for p in group["params"] if p not in self.blocks] for group in groups]

    def holds(self, groups: Sequence[Group]) -> bool:
        """Whether the groups have the parameters and blocks that were partitioned."""
        return not self._lazy and _signature(groups) == self._signature


class BlockFinder:
    """Blocks of the parameters of some groups.

    Args:
        groups: The parameter groups.
        invariances: As in `Radial`.
        default: Blocks of groups that have none, where `invariances` is None.
        least_ndim: Dimensions that a weight must have for what is said of all weights to count.

    Raises:
        TypeError: Invariances of another type.
        ValueError: Entries that no parameter has.
    """

    def __init__(self, groups: Sequence[Group], invariances: Any, default: Any = "cosine", least_ndim: int = 2) -> None:
        self._common = invariances if isinstance(invariances, (str, Blocks)) else None
        self._known = None
        self._default, self._least_ndim = default, least_ndim
        if isinstance(invariances, Mapping):
            self._known = _by_parameter(groups, invariances)
        elif invariances is not None and self._common is None:
            raise TypeError(
                f"invariances is a {type(invariances).__name__}: must be 'cosine', a Blocks, or a mapping from"
                " parameters or names to Blocks or None, as find_invariances gives"
            )

    def find(self, p: Tensor, group: Group, name: str) -> Blocks | str | None:
        """Blocks of a parameter; None where it is left to the base.

        Raises:
            ValueError: Blocks that do not fit, or a parameter that cannot be treated.
        """
        if is_lazy(p) or not p.numel():
            return None
        blocks = self._said(p, group) if self._known is None else self._known.get(p)
        if blocks is not None:
            _check(p, name)
            check_parameter(p, {"blocks": blocks, "fused": None}, name)
        return blocks

    def _said(self, p: Tensor, group: Group) -> Blocks | str | None:
        """What is said of all weights counts for matrices: gains, biases and scalars are left alone."""
        blocks = group.get("blocks", self._default) if self._common is None else self._common
        if blocks not in ("cosine", None) and not isinstance(blocks, Blocks):
            raise ValueError(f"blocks={blocks!r}: a wrapped optimizer takes 'cosine', a tangential.Blocks, or None")
        return blocks if p.ndim >= self._least_ndim and p.numel() > 1 else None


def _by_parameter(groups: Sequence[Group], invariances: Mapping[Any, Any]) -> dict[Tensor, Any]:
    for key, blocks in invariances.items():
        if not isinstance(key, (str, Tensor)) or not isinstance(blocks, (Blocks, type(None))):
            raise TypeError(f"invariances: {key!r}: {blocks!r} must be a parameter or its name, with Blocks or None")
    params = [p for group in groups for p in group["params"]]
    if all(isinstance(key, Tensor) for key in invariances):
        _check_used([key for key in invariances if not any(key is p for p in params)])
        return dict(invariances)
    names = [name for group in groups for name in group.get("param_names", ())]
    if len(names) == len(params):
        return _by_name(dict(zip(names, params, strict=True)), invariances)
    if isinstance(invariances, Invariances):  # it knows the parameters that were analysed
        found = {p: group["blocks"] for group in invariances.param_groups() for p in group["params"]}
        if any(p in found for p in params):
            return {p: found.get(p) for p in params}
    raise ValueError(
        "invariances go by name, and the optimizer has no names of these parameters: make it from"
        " model.named_parameters(), or pass a mapping from parameters to Blocks"
    )


def _by_name(params: Mapping[str, Tensor], invariances: Mapping[str, Any]) -> dict[Tensor, Any]:
    plain = {unprefixed(name): p for name, p in params.items()}
    if not isinstance(invariances, Invariances):  # which also knows frozen weights and those of other optimizers
        _check_used([name for name in invariances if unprefixed(name) not in plain])
    found: dict[Tensor, Any] = {}
    for name, p in params.items():
        try:
            found[p] = invariances[name]
        except KeyError:
            found[p] = {unprefixed(key): blocks for key, blocks in invariances.items()}.get(unprefixed(name))
    if not any(unprefixed(name) in plain for name in invariances):
        raise ValueError(f"invariances have none of the optimizer's parameters, such as {next(iter(params), None)!r}")
    return found


def _check_used(idle: Sequence[Any]) -> None:
    if idle:
        shown = [tuple(key.shape) if isinstance(key, Tensor) else key for key in idle[:3]]
        raise ValueError(
            f"invariances has {len(idle)} entries that no parameter of the optimizer is (any more): {shown}. Wrappers"
            " that flatten or exchange parameters (FSDP, DeepSpeed) come before the optimizer"
        )


def _check(p: Tensor, name: str) -> None:
    if is_flat(p) or any(cls.__name__ == "DTensor" for cls in type(p).__mro__):
        raise ValueError(
            f"{name} is sharded (DTensor or FSDP), and Radial sums over the blocks of whole weights: use"
            " DistributedDataParallel, or leave the weight to the base with blocks=None"
        )
    if not (p.is_floating_point() or p.is_complex()):
        raise ValueError(f"{name} is of {p.dtype}: only floating-point and complex weights have a radial part")


def check_gradients(part: Part) -> None:
    """Raise ValueError for a gradient that holds a part of a block only."""
    for p in part.params:
        if p.grad is not None and p.grad.layout != torch.strided:
            raise ValueError(
                f"a {p.grad.layout} gradient came for a weight of shape {tuple(p.shape)}: only dense gradients are"
                " allowed for treated weights. Use nn.Embedding(sparse=False), or blocks=None for it"
            )


def _parts(group: Group, blocks: Mapping[Tensor, Blocks | str], largest: int) -> Iterable[Part]:
    """Consecutive weights of a kind, as many as fit."""
    open_parts: dict[Any, list[Tensor]] = {}
    for p in group["params"]:
        if p not in blocks:
            continue
        kind = (blocks[p], p.dtype, p.device)
        members = open_parts.setdefault(kind, [])
        if members and sum(q.numel() for q in members) + p.numel() > largest:
            yield Part(group, kind[0], members)
            open_parts[kind] = members = []
        members.append(p)
    for (kind, _, _), members in open_parts.items():
        yield Part(group, kind, members)


def _signature(groups: Sequence[Group]) -> list[Any]:
    """What a partition depends on, by identity."""
    found: list[Any] = []
    for group in groups:
        found += [id(group), id(group.get("blocks")), *map(id, group["params"])]
    return found


def vector_dtype(device: torch.device) -> torch.dtype:
    """The dtype of numbers per block: float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64

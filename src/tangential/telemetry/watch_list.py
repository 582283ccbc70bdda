"""Watched weights of an optimizer: the name of each, and the blocks that its metrics are of.

The list is made anew at every record, so that groups that were added, state that was loaded and parameters that were
exchanged under way are in it. A weight keeps its name: by its identity, or, where the parameter object was exchanged
for another, by its place in the groups. Parameters that were flattened, as DeepSpeed and FSDP1 do, have no blocks any
more, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from tangential.blocks import Blocks
from tangential.invariances.verdicts import kind_and_label
from tangential.optimizers.validation import is_flat
from tangential.telemetry.names import BlocksByName, Names, parameters_by_name

Where = Callable[[str, Tensor], bool]
Place = tuple[int, int]
"""Number of the group, and index in it."""


@dataclass(frozen=True, eq=False)
class WatchedWeight:
    """One weight.

    Args:
        name: Its key in records.
        tensor: The parameter.
        shape: The parameter's shape, with one dimension at least and complex numbers as pairs.
        group: Its parameter group, for learning rate and decay.
        blocks: The blocks that its metrics are of.
        kind: What is known to be invariant: "channel", "groups", "layer" or "partial". None if nothing is known.
        variant: Whether it is known not to be invariant.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    group: dict[str, Any]
    blocks: Blocks
    kind: str | None
    variant: bool


class WatchList:
    """The watched weights of an optimizer.

    Args:
        optimizer: Whose parameters.
        names: Their names; `group.index` where there is none.
        invariances: Blocks or None by name; the optimizer's own `blocks` and then the default where there is none.
        where: Which weights to watch; by default those with two dimensions or more, or known blocks.

    Raises:
        TypeError: Names or invariances of another type.
        ValueError: A sharded parameter, blocks that do not fit a shape, or names that match nothing.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        names: Names | None,
        invariances: Mapping[str, Blocks | None] | None,
        where: Where | None,
    ) -> None:
        self._optimizer = optimizer
        self._where = where
        self._names = parameters_by_name(names)  # kept whole, so that an id stays that of its parameter
        self._known: dict[int, WatchedWeight] = {}
        self._places: dict[Place, WatchedWeight] = {}
        self._invariances = BlocksByName(invariances)
        self._check_names(given=names is not None)
        self.weights()

    def weights(self) -> list[WatchedWeight]:
        """All weights that are watched now, in the optimizer's order."""
        places = {
            (number, index): tensor
            for number, group in enumerate(self._optimizer.param_groups)
            for index, tensor in enumerate(group["params"])
            if not is_lazy(tensor)  # it has no shape before the first batch
        }
        present = {id(tensor) for tensor in places.values()}
        known: dict[int, WatchedWeight] = {}
        for place, tensor in places.items():
            known[id(tensor)] = self._kept(tensor, place) or self._made(tensor, place, present)
            self._places[place] = known[id(tensor)]
        self._known = known
        return [weight for weight in known.values() if weight.tensor.requires_grad and self._is_wanted(weight)]

    def _kept(self, tensor: Tensor, place: Place) -> WatchedWeight | None:
        """What is known of the tensor, if its group and its shape are still the same."""
        known = self._known.get(id(tensor))
        if known is None or known.tensor is not tensor or known.group is not self._optimizer.param_groups[place[0]]:
            return None
        return known if known.shape == _real_shape(tensor) else None

    def _is_wanted(self, weight: WatchedWeight) -> bool:
        if self._where is not None:
            return bool(self._where(weight.name, weight.tensor))
        return weight.tensor.ndim > 1 or weight.kind is not None

    def _made(self, tensor: Tensor, place: Place, present: set[int]) -> WatchedWeight:
        group = self._optimizer.param_groups[place[0]]
        before = self._before(tensor, place, present)
        name = self._new_name(tensor, place) if before is None or id(tensor) in self._names else before.name
        shape = _real_shape(tensor)
        if before is not None and len(shape) < 2 <= len(before.shape):
            raise ValueError(
                f"watch: parameter {name!r} had shape {before.shape} and now has {shape}: it was flattened (as"
                " DeepSpeed ZeRO and FSDP1 do) and has no blocks to measure. Watch an unsharded run"
                " (DistributedDataParallel works)"
            )
        if is_flat(tensor):
            raise ValueError(
                f"watch: parameter {name!r} is part of a flat vector of FullyShardedDataParallel without blocks to"
                " measure. Shard with `fully_shard` (FSDP2), or watch an unsharded run (DistributedDataParallel works)"
            )
        found, blocks = self._invariances.find(name)
        if not found:
            blocks = group["blocks"] if isinstance(group.get("blocks"), Blocks) else None
        if blocks is None:
            whole = Blocks(size=None) if tensor.ndim < 2 else Blocks()
            return WatchedWeight(name, tensor, shape, group, whole, kind=None, variant=found)
        try:
            blocks.check(shape)
        except ValueError as error:
            raise ValueError(f"watch: parameter {name!r}: {error}") from None
        kind = kind_and_label(blocks, shape)[0] if tensor.numel() else None
        return WatchedWeight(name, tensor, shape, group, blocks, kind, variant=False)

    def _before(self, tensor: Tensor, place: Place, present: set[int]) -> WatchedWeight | None:
        """The weight as it was: the same tensor, or the one in whose place it stands and that is there no more."""
        known, replaced = self._known.get(id(tensor)), self._places.get(place)
        if known is not None and known.tensor is tensor:
            return known
        return replaced if replaced is not None and id(replaced.tensor) not in present else None

    def _new_name(self, tensor: Tensor, place: Place) -> str:
        """The given name, the optimizer's, or the place."""
        if id(tensor) in self._names:
            return self._names[id(tensor)][0]
        number, index = place
        name = _default_names(self._optimizer)[place]
        taken = {own for own, _ in self._names.values()} | {weight.name for weight in self._known.values()}
        return name if name not in taken else f"{name} ({number}.{index})"

    def _check_names(self, *, given: bool) -> None:
        """Refuse names and invariances that no parameter has: what was meant would silently be left out."""
        optimized = {id(tensor) for group in self._optimizer.param_groups for tensor in group["params"]}
        if given and optimized and not optimized & self._names.keys():
            raise ValueError(
                "watch: names has none of the optimizer's parameters, which are others or were exchanged when the model"
                " was wrapped or moved; pass the named_parameters() of the model that the optimizer trains"
            )
        own = [name for group in self._optimizer.param_groups for name in group.get("param_names", ())]
        self._invariances.check(own + [name for name, _ in self._names.values()], complete=given)


def _default_names(optimizer: Optimizer) -> dict[Place, str]:
    """Names that the optimizer was given, `torch.optim.AdamW(model.named_parameters())`, or `group.index`."""
    found: dict[Place, str] = {}
    for number, group in enumerate(optimizer.param_groups):
        own = group.get("param_names") or ()
        for index in range(len(group["params"])):
            found[number, index] = own[index] if index < len(own) else f"{number}.{index}"
    return found


def _real_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of `real_rows` of the tensor, which need not be made for it."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape) or (1,)

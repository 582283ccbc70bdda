"""Which weights of an optimizer are watched, under which name, and how each is cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tangential.blocks import Blocks
from tangential.invariances.verdicts import kind_and_label
from tangential.optimizers.validation import is_sharded
from tangential.telemetry.block_rows import real

Names = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
Where = Callable[[str, Tensor], bool]


@dataclass(frozen=True, eq=False)
class Watched:
    """One weight.

    Args:
        name: What records call it.
        weight: The parameter.
        group: Its parameter group, for learning rate and decay.
        blocks: The blocks its figures are of.
        kind: What is known to be invariant: "channel", "groups", "layer" or "partial". None if nothing is known.
        variant: Whether it is known not to be invariant.
    """

    name: str
    weight: Tensor
    group: dict[str, Any]
    blocks: Blocks
    kind: str | None
    variant: bool


class Roster:
    """The watched weights of an optimizer, asked for anew at every record, so that later groups are in it.

    Args:
        optimizer: Whose parameters.
        names: Their names; `group.index` where there is none.
        invariances: Blocks or None by name; the optimizer's own `blocks` and then the default where there is none.
        where: Which weights to watch; by default those with two dimensions or more, or known blocks.

    Raises:
        TypeError: Names or invariances of another kind.
        ValueError: A sharded parameter, blocks that do not fit a shape, or invariances without names.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        names: Names | None,
        invariances: Mapping[str, Blocks | None] | None,
        where: Where | None,
    ) -> None:
        self._optimizer = optimizer
        self._invariances = _checked_invariances(invariances)
        self._where = where
        self._names = _by_identity(names)
        self._known: dict[int, Watched] = {}
        if invariances and not self._names and not any("param_names" in group for group in optimizer.param_groups):
            raise ValueError("watch: invariances need names to be looked up by; pass names=model.named_parameters()")
        self.watched()

    def watched(self) -> list[Watched]:
        """All weights that are watched now, in the optimizer's order."""
        found: list[Watched] = []
        for number, group in enumerate(self._optimizer.param_groups):
            for index, weight in enumerate(group["params"]):
                known = self._known.get(id(weight))
                if known is None or known.group is not group:
                    known = self._known[id(weight)] = self._made(weight, group, number, index)
                if weight.requires_grad and self._wanted(known):
                    found.append(known)
        return found

    def _wanted(self, one: Watched) -> bool:
        if self._where is not None:
            return bool(self._where(one.name, one.weight))
        return one.weight.ndim > 1 or one.kind is not None

    def _made(self, weight: Tensor, group: dict[str, Any], number: int, index: int) -> Watched:
        given = group.get("param_names")
        default = given[index] if given else f"{number}.{index}"
        name = self._names[id(weight)][0] if id(weight) in self._names else self._unused(default, number, index)
        if is_sharded(weight):
            raise ValueError(
                f"watch: parameter {name!r} is sharded (DTensor or FSDP): one process holds a part of each block, so"
                " norms and angles would be those of the part. Watch an unsharded run (DistributedDataParallel works)"
            )
        blocks = self._blocks_of(name, group)
        shape = tuple(real(weight).shape)
        if isinstance(blocks, Blocks):
            try:
                blocks.check(shape)
            except ValueError as error:
                raise ValueError(f"watch: parameter {name!r}: {error}") from None
            kind = kind_and_label(blocks, shape)[0] if weight.numel() else None
            return Watched(name, weight, group, blocks, kind, variant=False)
        whole = Blocks(size=None) if weight.ndim < 2 else Blocks()
        return Watched(name, weight, group, whole, None, variant=blocks is None)

    def _blocks_of(self, name: str, group: dict[str, Any]) -> Blocks | str | None:
        """What is known: blocks, None for a variant weight, or the text "unknown"."""
        if self._invariances is not None:
            try:
                return self._invariances[name]
            except KeyError:
                pass
        own = group.get("blocks", "unknown")
        return own if isinstance(own, Blocks) else "unknown"

    def _unused(self, name: str, number: int, index: int) -> str:
        taken = {own for own, _ in self._names.values()} | {one.name for one in self._known.values()}
        return name if name not in taken else f"{name} ({number}.{index})"


def _by_identity(names: Names | None) -> dict[int, tuple[str, Tensor]]:
    """Names by the identity of their parameter; the parameter is kept, so that the identity stays its own."""
    if names is None:
        return {}
    try:
        pairs: list[Any] = [(name, weight) for name, weight in (names.items() if isinstance(names, Mapping) else names)]
        fits = all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in pairs)
    except (TypeError, ValueError):
        fits, pairs = False, []
    if not fits:
        raise TypeError("watch: names must be pairs of name and parameter; pass names=model.named_parameters()")
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("watch: names has one name twice; each parameter needs its own, as model.named_parameters has")
    return {id(weight): (name, weight) for name, weight in pairs}


def _checked_invariances(invariances: Any) -> Mapping[str, Blocks | None] | None:
    if invariances is not None and not isinstance(invariances, Mapping):
        raise TypeError(
            f"watch: invariances is a {type(invariances).__name__}: must be a mapping from names to Blocks or None, as"
            " find_invariances gives"
        )
    return invariances

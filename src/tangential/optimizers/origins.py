"""Optimizers of other packages whose state SGDP and AdamP continue, and what each does that ours do not.

A state dict does not name its optimizer. Its groups tell: each has the settings of its constructor. Our own groups have
`blocks`; the others are compared with the origins below, and what none of them explains is refused. A `Difference` that
would change the trajectory is refused too, unless the caller allows it by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tangential.optimizers.settings import is_annotation

Group = Mapping[str, Any]
BACKENDS = ("foreach", "fused", "capturable", "differentiable")
"""Settings of how a step is computed, which are the loading optimizer's own."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that another optimizer does and the one that goes on does not.

    Args:
        name: What `allow` calls it.
        of: Words for it, from a group that has it; None from one that has not.
        entries: Keys of the state that are of no use without it.
        refused: False for one of the size of a rounding, or of one step, which is reported only.
    """

    name: str
    of: Callable[[Group], str | None]
    entries: frozenset[str] = frozenset()
    refused: bool = True


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An optimizer whose state can be read.

    Args:
        name: What the log calls it.
        marks: Settings that its groups have, all of them.
        settings: Those that are taken over; what is not among them stays as the loading optimizer has it.
        implied: Settings of ours that the rule and the settings of a group amount to.
        ignored: Its settings that mean nothing by themselves.
        differences: What it does and ours do not.
        renamed: Keys of its state, and ours for the same.
        counts: Where its step counts are: "parameter", "group", or None for an optimizer that keeps none.
    """

    name: str
    marks: frozenset[str]
    settings: frozenset[str]
    implied: Callable[[Group], Mapping[str, Any]] = lambda group: {}
    ignored: frozenset[str] = frozenset()
    differences: tuple[Difference, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    counts: str | None = "parameter"

    def unknown(self, group: Group) -> list[str]:
        """Settings of a group that no version of this origin has, as far as is known here."""
        known = {*self.settings, *self.ignored, *BACKENDS, *(each.name for each in self.differences)}
        return sorted(str(key) for key in group if key not in known and not is_annotation(key))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A saved group, once it is known who saved it and what will be lost.

    Args:
        group: The saved group.
        origin: Which optimizer saved it; None for our own.
        lost: The differences that were found and allowed, each with words for it.
        allowed: Names that the caller allowed to be lost.
    """

    group: Group
    origin: Origin | None = None
    lost: tuple[tuple[Difference, str], ...] = ()
    allowed: frozenset[str] = frozenset()

    @property
    def dropped(self) -> frozenset[str]:
        """Keys of the state that are passed over."""
        return self.allowed.union(*(each.entries for each, _ in self.lost))

    def settings(self) -> dict[str, Any]:
        """The settings to take over."""
        if self.origin is None:
            return {key: value for key, value in self.group.items() if key not in ("params", "param_names")}
        return {key: self.group[key] for key in self.origin.settings if key in self.group} | dict(
            self.origin.implied(self.group)
        )


def source_of(group: Group, origins: Collection[Origin], own: Collection[str], allowed: frozenset[str]) -> Source:
    """Find out who saved a group.

    Args:
        group: The saved group.
        origins: Other optimizers that are read; the first whose marks it has is taken for its own.
        own: Settings by which the loading optimizer's own groups are known.
        allowed: Names of differences that may be lost.

    Raises:
        ValueError: An optimizer that is not read, or a difference that is not allowed; the message is a clause that
            says which.
    """
    if {*own} <= group.keys():
        return Source(group=group)
    origin = next((each for each in origins if each.marks <= group.keys()), None)
    if origin is None:
        raise ValueError(f"its settings {sorted(map(str, group.keys() - {'params'}))} are of no optimizer that is read")
    if unknown := origin.unknown(group):
        raise ValueError(
            f"it has {unknown}, which {origin.name} had not when this was written (delete from its groups what changes"
            " no step)"
        )
    found = tuple((each, words) for each in origin.differences if (words := each.of(group)))
    if barred := [(each.name, words) for each, words in found if each.refused and each.name not in allowed]:
        names = tuple(dict.fromkeys(name for name, _ in barred))
        raise ValueError(f"it has {'; '.join(words for _, words in barred)}. To go on without: allow={names}")
    return Source(group=group, origin=origin, lost=found, allowed=allowed)

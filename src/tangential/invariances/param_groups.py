"""Parameter groups: one for each different pair of blocks and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tangential.blocks import Blocks
from tangential.invariances.parameter_names import matching

Decays = Callable[[str, Tensor], bool] | str | Sequence[str] | None
"""Which parameters do not decay: a function of name and parameter, shell patterns of names, or None for none."""

_OURS = ("params", "param_names", "blocks")


def grouped(
    weights: Iterable[tuple[str, Tensor, Blocks | None]],
    weight_decay: float,
    no_decay: Decays,
    common: Mapping[str, Any],
    names: bool,
) -> list[dict[str, Any]]:
    """Groups of `(name, parameter, blocks)` for a torch optimizer, in the order in which they first occur.

    Raises:
        TypeError: `common` has a key that is not the caller's.
        ValueError: A pattern of `no_decay` matches nothing.
    """
    if wrong := [key for key in _OURS if key in common]:
        raise TypeError(f"param_groups: {wrong[0]!r} is a key of the answer's own; it cannot be given")
    weights = list(weights)
    exempt = _exempt(weights, no_decay)
    members: dict[tuple[Blocks | None, float], list[tuple[str, Tensor]]] = {}
    for name, weight, blocks in weights:
        members.setdefault((blocks, 0.0 if name in exempt else weight_decay), []).append((name, weight))
    return [
        {
            "params": [weight for _, weight in members_of],
            **({"param_names": [name for name, _ in members_of]} if names else {}),
            "blocks": blocks,
            "weight_decay": decay,
            **common,
        }
        for (blocks, decay), members_of in members.items()
    ]


def _exempt(weights: Sequence[tuple[str, Tensor, Blocks | None]], no_decay: Decays) -> set[str]:
    if no_decay is None:
        return set()
    if callable(no_decay):
        return {name for name, weight, _ in weights if no_decay(name, weight)}
    names = [name for name, _, _ in weights]
    matches = {pattern: matching(pattern, names) for pattern in ([no_decay] if isinstance(no_decay, str) else no_decay)}
    if idle := [pattern for pattern, found in matches.items() if not found]:
        raise ValueError(f"no_decay: {idle[0]!r} matches no trainable parameter")
    return {name for found in matches.values() for name in found}

"""State of SGDP and AdamP as a state dict that another optimizer loads."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from torch.optim import Optimizer

from tangential.optimizers.base import Projected
from tangential.optimizers.known_targets import OF_ADAMP, OF_SGDP, REMAINDERS, Target
from tangential.optimizers.settings import SETTINGS

_log = logging.getLogger("tangential")


def export_state(optimizer: Optimizer, format: str, *, allow: Collection[str] = ()) -> dict[str, Any]:
    """The state of SGDP or AdamP as a state dict of another optimizer, which goes on from there.

    Step counts, moments, settings, names and notes in the groups are written as the other optimizer keeps them, in
    memory of their own. It continues the same trajectory, or the export is refused: torch's optimizers project
    nothing, and the packages test the cosine of every weight at every step, so that known blocks have no place there.

    Args:
        optimizer: An `SGDP` or `AdamP`.
        format: Whose state dict is written. Of AdamP: "adamw" (`torch.optim.AdamW`), and the AdamP of the packages
            "adamp", "timm", "torch_optimizer", "pytorch_optimizer". Of SGDP: "sgd" (`torch.optim.SGD`), and the SGDP of
            the same packages.
        allow: What may be lost, by the names that the refusal gives, like `("projection",)`.

    Returns:
        A state dict for `load_state_dict` of the other optimizer, made of the same parameters in the same groups.

    Raises:
        TypeError: An optimizer that is neither SGDP nor AdamP.
        ValueError: An unknown format, or something that the other optimizer would not continue.

    Examples:
        >>> import torch
        >>> from tangential import AdamP, export_state
        >>> w = torch.nn.Parameter(torch.randn(4, 3))
        >>> optimizer = AdamP([dict(params=[w], blocks=None)], lr=1e-3)
        >>> w.square().sum().backward()
        >>> optimizer.step()
        >>> other = torch.optim.AdamW([w])
        >>> other.load_state_dict(export_state(optimizer, "adamw"))
        >>> float(other.state[w]["step"])
        1.0
    """
    target = _target(optimizer, format)
    names = {allow} if isinstance(allow, str) else {*allow}
    saved = optimizer.state_dict()
    groups, state, lost = [], {}, {}
    for group, packed in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        owns = [saved["state"].get(i) or {} for i in packed["params"]]
        view = {**group, "steps": [int(own["step"]) if own else 0 for own in owns]}
        lost |= _lost(optimizer, target, view, names)
        notes = {key: value for key, value in packed.items() if key not in SETTINGS}
        groups.append({**notes, **target.settings(view)})
        found = {i: target.entries(view, own) for i, own in zip(packed["params"], owns, strict=True) if own}
        state |= {i: entries for i, entries in found.items() if entries}
    _log.log(
        logging.WARNING if lost else logging.INFO,
        "%s exported to the %s: state of %d parameters; lost: %s",
        type(optimizer).__name__,
        target.name,
        len(state),
        "; ".join(lost) or "nothing",
    )
    return {"state": state, "param_groups": groups}


def _target(optimizer: Any, format: str) -> Target:
    if not isinstance(optimizer, Projected):
        raise TypeError(f"{type(optimizer).__name__} came: only SGDP and AdamP are exported")
    targets = OF_ADAMP if "betas" in optimizer.defaults else OF_SGDP
    if format not in targets:
        raise ValueError(f"format={format!r}: {type(optimizer).__name__} is exported to {', '.join(targets)}")
    return targets[format]


def _lost(optimizer: Optimizer, target: Target, group: dict[str, Any], allowed: set[str]) -> dict[str, None]:
    """Words for what the target will not do; raises ValueError for what is not allowed."""
    found = [(each, words) for each in (*target.differences, REMAINDERS) if (words := each.of(group))]
    if barred := [(each.name, words) for each, words in found if each.refused and each.name not in allowed]:
        raise ValueError(
            f"the {target.name} would not continue {type(optimizer).__name__}: it lacks"
            f" {'; '.join(words for _, words in barred)}. To export without: allow={tuple(name for name, _ in barred)}"
        )
    return dict.fromkeys(words for _, words in found)

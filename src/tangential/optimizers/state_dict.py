"""State dicts: plain values on the way out; on the way in, every entry checked against its weight.

    {"state": {id: {"step": (), "exp_avg": (shape of the weight), ...}},
     "param_groups": [{settings, "params": [id, ...], "param_names": [name, ...]}]}

What is loaded is foreign: of another version, package, model or device, truncated, or made up. `readable` goes over it
in four passes: its structure; which saved id belongs to which parameter (by `param_names` where both sides have them,
else by place, as torch does); the settings of each group; the entries of each parameter. It returns what torch's
`load_state_dict` may store without looking again, and raises before anything of the optimizer has been changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.optimizers.entries import Entries
from tangential.optimizers.origins import Origin
from tangential.optimizers.settings import SETTINGS, check_settings, plain
from tangential.optimizers.validation import check_parameter, label

Group = Mapping[str, Any]
Place = tuple[int, Any]
"""`(saved group, saved id)` of a parameter."""

_WRAPPERS = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of parameter names that `torch.compile`, Fabric, FSDP and activation checkpointing insert."""


class Checked:
    """Entries of one parameter, opaque to torch, which would round float32 moments to the dtype of their weight."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries


def to_plain(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Give the groups of a state dict torch's and Python's own types only, so that `torch.load` reads them."""
    for group in state_dict.get("param_groups", ()):
        group.update({name: plain(name, group[name]) for name in SETTINGS if name in group})
    return state_dict


def readable(optimizer: Optimizer, given: Any, *, moments: Sequence[str], origins: Sequence[Origin]) -> dict[str, Any]:
    """A checked copy of a state dict, with the groups and the order of `optimizer`.

    Args:
        optimizer: The one that loads.
        given: What was saved.
        moments: Keys of the optimizer's moments.
        origins: Other optimizers whose state it can continue.

    Raises:
        TypeError: Something of another type than a state dict has there.
        ValueError: Groups, settings or entries that do not fit the optimizer and its weights.
    """
    saved_groups, saved_state = _structure(given)
    saved_by = [_origin(optimizer, origins, group, i) for i, group in enumerate(saved_groups)]
    places = _by_name(optimizer.param_groups, saved_groups) or _by_place(optimizer.param_groups, saved_groups)
    entries = Entries(optimizer, moments)
    groups: list[dict[str, Any]] = []
    state: dict[Any, Any] = {}
    for at, (own, taken) in enumerate(zip(optimizer.param_groups, places, strict=True)):
        sources = list(dict.fromkeys(i for i, _ in taken)) or [at][: len(saved_groups) - at]
        group = _merged(own, [(saved_groups[i], saved_by[i]) for i in sources], at)
        first = sum(len(before["params"]) for before in groups)
        for i, (p, (source, saved_id)) in enumerate(zip(own["params"], taken, strict=True)):
            check_parameter(p, group, label(group, i))
            steps = saved_groups[source].get("step", 0)
            loaded = entries.of(p, saved_state.get(saved_id), group, saved_by[source], steps, label(group, i))
            if loaded:
                state[first + i] = Checked(loaded)
        groups.append({**group, "params": list(range(first, first + len(taken)))})
    entries.check_values()
    ids = set(chain.from_iterable(group["params"] for group in saved_groups))
    return {"state": state | {k: v for k, v in saved_state.items() if k not in ids}, "param_groups": groups}


def _structure(given: Any) -> tuple[Sequence[Group], Mapping[Any, Any]]:
    """The groups and the state of a state dict, once they have the types that all of torch's have."""
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= given.keys():
        came = f"keys {[*given][:3]}" if isinstance(given, Mapping) else type(given).__name__
        raise TypeError(f"{came} came: an optimizer's state dict has the keys 'state' and 'param_groups'")
    groups, state = given["param_groups"], given["state"]
    if not isinstance(state, Mapping):
        raise TypeError(f"'state' is a {type(state).__name__}: must be a dict by parameter id")
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"'param_groups' is a {type(groups).__name__}: must be a list of groups")
    for i, group in enumerate(groups):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), (list, tuple)):
            raise TypeError(f"param_groups[{i}]: must be a dict whose 'params' is a list of ids")
    ids = list(chain.from_iterable(group["params"] for group in groups))
    if any(not isinstance(i, (int, str)) for i in ids) or len(set(ids)) < len(ids):
        raise ValueError("'params' of the groups: each id must be an integer or a name, and come once")
    if unknown := [key for key in state if key not in set(ids) and not isinstance(key, str)]:
        raise ValueError(f"'state' has entries of the ids {unknown[:3]}, which no group has: the file is incomplete")
    return groups, state


def _origin(optimizer: Optimizer, origins: Sequence[Origin], group: Group, at: int) -> Origin | None:
    """The optimizer that saved a group; None for our own."""
    owner, own = type(optimizer).__name__, "betas" if "betas" in optimizer.defaults else "momentum"
    if {"blocks", own} <= group.keys():
        return None
    known = next((origin for origin in origins if origin.saved(group)), None)
    reason = known.reason_against(group) if known else f"its settings {sorted(map(str, group.keys() - {'params'}))}"
    if known is None or reason:
        raise ValueError(
            f"param_groups[{at}] was saved by another optimizer, whose steps {owner} would not continue: {reason}. Load"
            " it into the optimizer that saved it, or start with fresh state"
        )
    return known


def _by_name(groups: Sequence[Group], saved: Sequence[Group]) -> list[list[Place]] | None:
    """The place of every parameter by its name; None where names are missing or not unique."""
    here, there = _names(groups), _names(saved)
    if here is None or there is None:
        return None
    if here.keys() != there.keys():
        lacking, foreign = sorted(here.keys() - there.keys())[:3], sorted(there.keys() - here.keys())[:3]
        raise ValueError(
            f"the state dict is of other parameters: it lacks {lacking} and has {foreign}. Its groups and the"
            " optimizer's have names, so they are matched by name; delete 'param_names' from its groups to match them"
            " by place"
        )
    found: list[list[Place]] = [[(0, None)] * len(group["params"]) for group in groups]
    for name, (group, i) in here.items():
        source, j = there[name]
        found[group][i] = (source, saved[source]["params"][j])
    return found


def _names(groups: Sequence[Group]) -> dict[str, tuple[int, int]] | None:
    """`(group, place in it)` of every name without wrappers' parts; None if some are missing or not unique."""
    found: dict[str, tuple[int, int]] = {}
    for at, group in enumerate(groups):
        names = group.get("param_names")
        if not isinstance(names, (list, tuple)) or len(names) != len(group["params"]):
            return None
        found |= {_unwrapped(str(name)): (at, i) for i, name in enumerate(names)}
    return found if len(found) == sum(len(group["params"]) for group in groups) else None


def _unwrapped(name: str) -> str:
    name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _by_place(groups: Sequence[Group], saved: Sequence[Group]) -> list[list[Place]]:
    """The place of every parameter in the saved order."""
    if len(groups) != len(saved):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups: {len(saved)}, the optimizer {len(groups)}."
            " With names on both sides (groups of `named_parameters()`) other groups can be loaded"
        )
    for i, (own, other) in enumerate(zip(groups, saved, strict=True)):
        if len(own["params"]) != len(other["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group:"
                f" param_groups[{i}] has {len(other['params'])} parameters, the optimizer's {len(own['params'])}"
            )
    return [[(at, saved_id) for saved_id in group["params"]] for at, group in enumerate(saved)]


def _merged(own: Group, sources: Sequence[tuple[Group, Origin | None]], at: int) -> dict[str, Any]:
    """A group with the settings that were saved for its parameters, and the optimizer's own where none were."""
    taken: dict[str, Any] = {}
    for saved, origin in sources:
        keys = origin.settings & own.keys() if origin else saved.keys() - {"params", "param_names"}
        found = {key: saved[key] for key in keys if key in saved}
        if different := [key for key, value in taken.items() if not _equal(value, found.get(key))]:
            raise ValueError(
                f"group {at} of the optimizer joins parameters of several saved groups, whose {different} differ: group"
                " them as they were saved, or start with fresh state"
            )
        taken |= found
    names = own.get("param_names", sources[0][0].get("param_names") if sources else None)
    group = {**own, **taken, **({} if names is None else {"param_names": names})}
    try:
        check_settings(group)
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {at} of the state dict: {error}") from None
    return group


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return plain("blocks", a) == plain("blocks", b) if type(a) is not type(b) else bool(a == b)

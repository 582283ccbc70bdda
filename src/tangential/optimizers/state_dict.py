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
from tangential.optimizers.migration_log import report
from tangential.optimizers.origins import Origin, Source, source_of
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


def readable(
    optimizer: Optimizer,
    given: Any,
    *,
    moments: Sequence[str],
    origins: Sequence[Origin],
    allow: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """A checked copy of a state dict, with the groups and the order of `optimizer`.

    Args:
        optimizer: The one that loads.
        given: What was saved.
        moments: Keys of the optimizer's moments.
        origins: Other optimizers whose state it can continue.
        allow: Names of what may be lost of another optimizer's state.

    Raises:
        TypeError: Something of another type than a state dict has there.
        ValueError: Groups, settings or entries that do not fit the optimizer and its weights.
    """
    saved_groups, saved_state = _structure(given)
    sources = _sources(optimizer, saved_groups, origins, allow)
    places = _by_name(optimizer.param_groups, saved_groups) or _by_place(optimizer.param_groups, saved_groups)
    entries = Entries(optimizer, moments)
    groups: list[dict[str, Any]] = []
    state: dict[Any, Any] = {}
    for at, (own, taken) in enumerate(zip(optimizer.param_groups, places, strict=True)):
        used = list(dict.fromkeys(i for i, _ in taken)) or [at][: len(saved_groups) - at]
        group = _merged(own, [sources[i] for i in used], at)
        first = sum(len(before["params"]) for before in groups)
        for i, (p, (source, saved_id)) in enumerate(zip(own["params"], taken, strict=True)):
            check_parameter(p, group, label(group, i))
            loaded = entries.of(p, saved_state.get(saved_id), group, sources[source], label(group, i))
            if loaded:
                state[first + i] = Checked(loaded)
        groups.append({**group, "params": list(range(first, first + len(taken)))})
    entries.check_values()
    report(optimizer, sources, moments, len(state), entries.dropped)
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


def _sources(
    optimizer: Optimizer, groups: Sequence[Group], origins: Sequence[Origin], allow: frozenset[str]
) -> list[Source]:
    """Who saved each group."""
    owner, own = type(optimizer).__name__, ("blocks", "betas" if "betas" in optimizer.defaults else "momentum")
    found = []
    for at, group in enumerate(_with_settings(groups, own)):
        try:
            found.append(source_of(group, origins, own, allow))
        except ValueError as error:
            raise ValueError(
                f"param_groups[{at}] was saved by another optimizer, whose steps {owner} would not continue: {error}."
                " Or load it into the optimizer that saved it, or start with fresh state"
            ) from None
    return found


def _with_settings(groups: Sequence[Group], own: Sequence[str]) -> Sequence[Group]:
    """The groups, with the settings of the only one that has some.

    `torch.distributed.checkpoint` gives the settings of a saved group to one of the groups that it is parted into.
    """
    settings = [{k: v for k, v in group.items() if k not in ("params", "param_names")} for group in groups]
    filled = [found for found in settings if found]
    if len(filled) != 1 or {*own} <= filled[0].keys():
        return groups
    return [{**filled[0], **group} for group in groups]


def _by_name(groups: Sequence[Group], saved: Sequence[Group]) -> list[list[Place]] | None:
    """The place of every parameter by its name; None where names are missing or not unique."""
    here, there = _names(groups, "param_names"), _names(saved, "param_names")
    if here is not None and there is None:  # distributed checkpoints have names for ids
        there = _names(saved, "params")
        there = there if there is not None and there.keys() == here.keys() else None
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


def _names(groups: Sequence[Group], key: str) -> dict[str, tuple[int, int]] | None:
    """`(group, place in it)` of every name without wrappers' parts; None if some are missing or not unique."""
    found: dict[str, tuple[int, int]] = {}
    for at, group in enumerate(groups):
        names = group.get(key)
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


def _merged(own: Group, sources: Sequence[Source], at: int) -> dict[str, Any]:
    """A group with the settings that were saved for its parameters, and the optimizer's own where none were."""
    taken: dict[str, Any] = {}
    for source in sources:
        found = source.settings()
        found = {key: value for key, value in found.items() if source.origin is None or key in own}
        if different := [key for key, value in taken.items() if not _equal(value, found.get(key))]:
            raise ValueError(
                f"group {at} of the optimizer joins parameters of several saved groups, whose {different} differ: group"
                " them as they were saved, or start with fresh state"
            )
        taken |= found
    names = own.get("param_names", sources[0].group.get("param_names") if sources else None)
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

"""The optimizers whose state dicts `export_state` writes: their groups, their entries, and what they do not do.

A `Difference` here is the other way round than in `origins`: something that ours does and the target does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from tangential.backends import has_remainder
from tangential.blocks import Blocks
from tangential.optimizers.origins import Difference, Group
from tangential.optimizers.settings import scalar


@dataclass(frozen=True, kw_only=True)
class Target:
    """Another optimizer, by the form of its state dict.

    Args:
        name: What messages call it.
        settings: Its settings, from a group of ours that has the step counts of its parameters as `steps`.
        entries: Its state of a parameter, from our group and our state.
        differences: What ours does and it does not.
    """

    name: str
    settings: Callable[[Group], dict[str, Any]]
    entries: Callable[[Group, Mapping[str, Tensor]], dict[str, Any]]
    differences: tuple[Difference, ...]


def _projects(group: Group) -> bool:
    """Whether any weight of a group may be projected; the cosine test never fires for vectors, nor at delta=0."""
    if group["blocks"] is None or isinstance(group["blocks"], Blocks):
        return group["blocks"] is not None
    return bool(scalar(group["delta"])) and any(is_lazy(p) or p.ndim > 1 for p in group["params"])


def _difference(name: str, holds: Callable[[Group], Any], words: str, *, refused: bool = True) -> Difference:
    """A difference of the groups for which `holds`; their settings fill the braces in the words."""
    return Difference(name=name, of=lambda g: words.format(**g) if holds(g) else None, refused=refused)


REMAINDERS = _difference(
    "compensation",
    lambda g: any(has_remainder(p, g["compensation"]) for p in g["params"]),
    "the remainders of half-precision weights (it rounds every step)",
    refused=False,
)
"""A difference to every other optimizer."""
_PROJECTION = _difference("projection", _projects, "projected steps of blocks={blocks!r} (it projects nothing)")
_BLOCKS = _difference(
    "projection", lambda g: isinstance(g["blocks"], (Blocks, str)) and g["blocks"] != "cosine" and _projects(g),
    "projected steps of blocks={blocks!r} (it tests the cosine at every step)",
)  # fmt: skip
_NESTEROV = _difference("nesterov", lambda g: g["nesterov"], "nesterov=True (it has plain momentum)")
_MAXIMIZE = _difference("maximize", lambda g: g["maximize"], "maximize=True (it descends)")
_UNSAVED_MAXIMIZE = _difference(
    "maximize", lambda g: g["maximize"], "maximize=True (its state has no place for it: construct it so)", refused=False
)
_EPS = _difference(
    "eps", lambda g: scalar(g["eps"]), "eps added after the bias correction (there before it)", refused=False
)
_COUNTS = _difference("step", lambda g: len({*g["steps"]}) > 1, "step counts {steps} (it has one for the group)")
_BUFFER = _difference(
    "momentum",
    lambda g: scalar(g["momentum"]) and not g["nesterov"] and _projects(g),
    "a momentum buffer that is never projected (it projects the buffer in place, unless nesterov=True)",
)
_DECAY = _difference(
    "weight_decay",
    lambda g: scalar(g["weight_decay"]),
    "decoupled weight_decay={weight_decay} (it adds it to gradients)",
)
_DAMPENING = _difference(
    "dampening",
    lambda g: scalar(g["momentum"]) and scalar(g["dampening"]) and 0 in g["steps"],
    "dampening of the first gradient (it begins without)",
    refused=False,
)


def _number(value: Any) -> Any:
    """A setting as a number; a tensor on a device is copied, so that no schedule writes into both."""
    if isinstance(value, Tensor):
        return value.item() if value.is_cpu else value.detach().clone()
    return value


def _common(group: Group) -> dict[str, Any]:
    rates = ("betas",) if "betas" in group else ("momentum", "dampening")
    found = {key: _number(group[key]) for key in ("lr", "weight_decay", *rates) if key != "betas"}
    return found | ({"betas": tuple(map(_number, group["betas"]))} if "betas" in group else {})


def _torchs(group: Group) -> dict[str, Any]:
    switches = {key: group[key] for key in ("maximize", "differentiable")}
    return {**_common(group), **switches, "foreach": None, "fused": None}


def _adamw(group: Group) -> dict[str, Any]:
    own = {"eps": _number(group["eps"]), "amsgrad": False, "decoupled_weight_decay": True}
    return {**_torchs(group), **own, "capturable": group["capturable"]}


def _sgd(group: Group) -> dict[str, Any]:
    return {**_torchs(group), "nesterov": group["nesterov"]}


def _projected(group: Group) -> dict[str, Any]:
    """The groups of the authors' package; where nothing is to be projected, a bound that no cosine is below."""
    delta = _number(group["delta"]) if group["blocks"] is not None else 0.0
    own = {"eps": _number(group["eps"]), "wd_ratio": _number(group["wd_ratio"]), "nesterov": group["nesterov"]}
    return {**_common(group), **own, "delta": delta}


def _timms(group: Group) -> dict[str, Any]:
    return {**_projected(group), "caution": False}


def _kozistrs(group: Group) -> dict[str, Any]:
    own = {"weight_decouple": True, "fixed_decay": False, "foreach": False}
    return {**_projected(group), **own, "step": max(group["steps"], default=0)}


def _moments(group: Group, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: own[key].detach().clone() for key in ("exp_avg", "exp_avg_sq")}


def _counted_tensor(group: Group, own: Mapping[str, Tensor]) -> dict[str, Any]:
    device = own["exp_avg"].device if group["capturable"] else torch.device("cpu")
    return {"step": own["step"].detach().clone().to(device), **_moments(group, own)}


def _counted(group: Group, own: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"step": int(own["step"]), **_moments(group, own)}


def _buffer(key: str) -> Callable[[Group, Mapping[str, Tensor]], dict[str, Any]]:
    return lambda group, own: {key: own["momentum_buffer"].detach().clone()}


def _torch_buffer(group: Group, own: Mapping[str, Tensor]) -> dict[str, Any]:
    return _buffer("momentum_buffer")(group, own) if scalar(group["momentum"]) else {}


_ADAMP = Target(name="AdamP of adamp", settings=_projected, entries=_counted, differences=(_BLOCKS, _MAXIMIZE))
_SGDP = Target(
    name="SGDP of adamp", settings=_projected, entries=_buffer("momentum"), differences=(_BLOCKS, _MAXIMIZE, _BUFFER)
)
OF_ADAMP = {
    "adamw": Target(
        name="AdamW of torch", settings=_adamw, entries=_counted_tensor, differences=(_PROJECTION, _NESTEROV)
    ),
    "adamp": _ADAMP,
    "timm": replace(_ADAMP, name="AdamP of timm", settings=_timms),
    "torch_optimizer": replace(_ADAMP, name="AdamP of torch_optimizer"),
    "pytorch_optimizer": Target(
        name="AdamP of pytorch_optimizer",
        settings=_kozistrs,
        entries=_moments,
        differences=(_BLOCKS, _UNSAVED_MAXIMIZE, _COUNTS, _EPS),
    ),
}
OF_SGDP = {
    "sgd": Target(
        name="SGD of torch", settings=_sgd, entries=_torch_buffer, differences=(_PROJECTION, _DECAY, _DAMPENING)
    ),
    "adamp": _SGDP,
    "timm": replace(_SGDP, name="SGDP of timm", settings=_timms, differences=(_BLOCKS, _MAXIMIZE)),
    "torch_optimizer": replace(_SGDP, name="SGDP of torch_optimizer"),
    "pytorch_optimizer": replace(
        _SGDP, name="SGDP of pytorch_optimizer", settings=_kozistrs, differences=(_BLOCKS, _UNSAVED_MAXIMIZE)
    ),
}

"""Settings of a parameter group: the range of each, its plain form, and the keys that are none.

A setting is checked where it enters (constructor, `add_param_group`, `load_state_dict`) and again at the step that
finds another value in the group, because schedulers, trainers and users write into groups. What behaves like a number
or a pair of numbers is taken (NumPy scalars, configuration lists, tensors of one element) and stored as plain Python,
so that a state dict holds nothing that `torch.load` would refuse. A tensor is kept as it is: its owner may fill it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.serialization import add_safe_globals

from tangential.blocks import Blocks

# Our state dicts have plain values; an optimizer around ours that saves its groups itself, as
# ZeroRedundancyOptimizer does, saves the Blocks in them, and `torch.load` is to read these too.
add_safe_globals([Blocks])


@dataclass(frozen=True)
class _Range:
    allowed: str
    holds: Callable[[float], bool]


_LARGEST = 1e18
"""The product of two settings is to be finite in float32: torch raises in the middle of a step for a larger number."""
_AT_LEAST_ZERO = _Range(f"finite and at least 0, at most {_LARGEST:g}", lambda x: 0 <= x <= _LARGEST)
_NUMBERS = {
    "lr": _AT_LEAST_ZERO,
    "eps": _AT_LEAST_ZERO,
    "weight_decay": _AT_LEAST_ZERO,
    "delta": _AT_LEAST_ZERO,
    "momentum": _Range("in [0, 1)", lambda x: 0 <= x < 1),
    "dampening": _Range(f"finite, of size at most {_LARGEST:g}", lambda x: abs(x) <= _LARGEST),
    "wd_ratio": _Range("in [0, 1]; 1 turns the reduced decay off", lambda x: 0 <= x <= 1),
}
_ON_DEVICES = ("lr", "weight_decay")
"""Settings whose tensors are never read back: what schedules fill."""
_BETA = _Range("two numbers in [0, 1)", lambda x: 0 <= x < 1)
_SWITCHES = ("nesterov", "maximize", "capturable", "differentiable")
_BACKENDS = ("foreach", "fused")
_COMPENSATIONS = ("auto", "kahan", "stochastic", None)
_ALLOWED = f"must be one of {', '.join(map(repr, _COMPENSATIONS))}"
SETTINGS = (*_NUMBERS, "betas", "blocks", "compensation", *_SWITCHES, *_BACKENDS)
"""Keys of a group that a step depends on."""
_BLOCKS = "must be 'cosine', 'sticky', a tangential.Blocks, or None"

_ANNOTATIONS = {
    *("params", "param_names", "name", "names", "label", "labels", "group", "rho", "adaptive", "moe"),
    *("frozen", "pretrained", "max_lr_snapshot"),
    *("max_momentum", "base_momentum", "initial_momentum"),
}
"""Keys that schedulers, trainers and wrapping optimizers put beside settings. `rho` and `adaptive` are SAM's."""
_ANNOTATION_ENDS = ("_lr", "_mult", "_multiplier", "_scale", "_name", "_names", "_id", "_idx", "_type")
_FOREIGN: dict[str, tuple[tuple[Any, ...], str]] = {
    "amsgrad": ((False,), "it keeps no maximum of the second moment"),
    "decoupled_weight_decay": ((True,), "its weight decay is always decoupled, which is the same without any only"),
    "weight_decouple": ((True,), "its weight decay is always decoupled"),
    "fixed_decay": ((False,), "its weight decay is always multiplied by lr"),
    "corrected_weight_decay": ((False,), "its weight decay is proportional to lr"),
    "clipping_threshold": ((None,), "it does not clip steps"),
    "caution": ((False,), "it masks no steps"),
    "cautious": ((False,), "it masks no steps"),
    "momentum": ((0,), "its momentum is betas[0]"),
    "dampening": ((0,), "its momentum is betas[0]"),
    "step": ((0,), "it counts the steps of each parameter; load_state_dict reads the count of a group"),
    "betas": ((), "its one decay rate is momentum"),
    "momentum_decay": ((), "its momentum has no schedule (NAdam's)"),
    **dict.fromkeys(("alpha", "centered"), ((), "that is RMSprop's")),
    **dict.fromkeys(("lr_decay", "initial_accumulator_value"), ((), "that is Adagrad's")),
    **dict.fromkeys(("lambd", "t0"), ((), "that is ASGD's")),
    **dict.fromkeys(("ns_coefficients", "ns_steps", "adjust_lr_fn"), ((), "that is Muon's")),
}
"""Settings that other optimizers write into dicts they are given: values without effect here; why not the others."""


def is_annotation(key: Any) -> bool:
    """Whether a group's key is a note of a scheduler, trainer or user, which no step depends on."""
    text = str(key)
    return key in _ANNOTATIONS or text.startswith("_") or text.endswith(_ANNOTATION_ENDS)


def check_keys(group: Mapping[str, Any], defaults: Mapping[str, Any], owner: str) -> None:
    """Raise TypeError for a key that is neither a setting of `owner` nor an annotation.

    A key that resembles a setting is a misspelling even if it looks like an annotation. A setting of another optimizer,
    which had the dict before, is passed over at a value that changes nothing.

    Args:
        group: The group.
        defaults: The owner's settings.
        owner: What errors call it.
    """
    for key in [key for key in group if key not in defaults and key not in _ANNOTATIONS]:
        if key in _FOREIGN:
            _check_foreign(key, {**defaults, **group}, owner)
            continue
        close = get_close_matches(str(key).lower(), [*defaults], n=1, cutoff=0.8)
        if close or not is_annotation(key):
            hint = f"did you mean {close[0]!r}?" if close else f"its settings are {', '.join(defaults)}."
            raise TypeError(
                f"parameter group with the key {key!r}: {owner} has no such setting; {hint} A note of your own may"
                " begin with an underscore"
            )


def _check_foreign(key: str, group: Mapping[str, Any], owner: str) -> None:
    allowed, reason = _FOREIGN[key]
    value = _python(group[key])
    if isinstance(value, (bool, int, float, type(None))) and value in allowed:
        return
    if key == "decoupled_weight_decay" and not scalar(checked("weight_decay", group["weight_decay"])):
        return
    raise TypeError(
        f"parameter group with {key}={group[key]!r}: {owner} has no such setting; {reason}. torch's optimizers write"
        " their defaults into the dicts that they are given: give each optimizer its own, [dict(group) for group in"
        " groups] before the first is made"
    )


def check_settings(group: dict[str, Any], names: Iterable[str] = SETTINGS) -> None:
    """Check settings of a group and store their plain form in it.

    Args:
        group: The group; it keeps its values if one is refused.
        names: Those to check; what the group lacks is passed over.

    Raises:
        TypeError: A setting of the wrong type.
        ValueError: A setting out of range, or settings that exclude each other.
    """
    found = {name: checked(name, group[name]) for name in names if name in group}
    _check_backends({**group, **found})
    group.update(found)


def checked(name: str, value: Any) -> Any:
    """The plain form of a setting; of what is no setting, the value.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of range.
    """
    if name in _NUMBERS:
        return _number(name, value, _NUMBERS[name])
    if name == "betas":
        return _betas(value)
    if name == "blocks":
        return _blocks(value)
    if name == "compensation":
        return _compensation(value)
    if name in _SWITCHES or name in _BACKENDS:
        return _switch(name, value, optional=name in _BACKENDS)
    return value


def plain(name: str, value: Any) -> Any:
    """A setting as a state dict holds it: torch's and Python's own types only."""
    if name == "blocks" and isinstance(value, Blocks):
        return value.plain
    try:
        return checked(name, value)
    except (TypeError, ValueError):  # the step that is to use it raises
        return value


def scalar(value: Any) -> Any:
    """The number in a setting that may be a tensor on the CPU."""
    return value.item() if isinstance(value, Tensor) else value


def precise(value: Any) -> Any:
    """A setting that is not read back where it is a tensor: that in float64, 0-d."""
    return value.double().reshape(()) if isinstance(value, Tensor) else value


def _number(name: str, value: Any, limits: _Range) -> Any:
    if isinstance(value, Tensor):
        number = _read(name, value)
        if number is None:
            return value
    else:
        value = number = _python(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name}={value!r}: must be a number")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not limits.holds(number):
        raise ValueError(f"{name}={number if isinstance(value, Tensor) else value}: must be {limits.allowed}")
    return value


def _read(name: str, value: Tensor) -> Any:
    """The number in a tensor; None for one whose value would have to be read back from a device, or is not there."""
    if value.numel() != 1:
        raise ValueError(f"{name} is a tensor of shape {tuple(value.shape)}: must have one element")
    if value.is_complex():
        raise TypeError(f"{name} is a tensor of {value.dtype}: must be real")
    if value.is_meta:
        raise TypeError(f"{name} is a tensor on the device 'meta': must hold a number")
    if value.is_cpu and type(value) in (Tensor, Parameter):
        return value.item()
    if name not in _ON_DEVICES:
        allowed = " and ".join(_ON_DEVICES)
        raise TypeError(
            f"{name} is a {type(value).__name__} on {value.device}: only {allowed} may be tensors off the CPU"
        )
    return None


def _python(value: Any) -> Any:
    """NumPy's scalars, arrays of one element and the like as Python's own numbers."""
    if type(value) in (int, float, bool, type(None)):
        return value
    if getattr(value, "size", None) == 1 and callable(getattr(value, "item", None)):
        return value.item()
    return float(value) if isinstance(value, Real) and not isinstance(value, (int, float)) else value


def _betas(value: Any) -> tuple[Any, Any]:
    numbers = () if isinstance(value, (str, bytes, Mapping, set)) or not hasattr(value, "__iter__") else tuple(value)
    if len(numbers) != 2:
        raise TypeError(f"betas={value!r}: must be two numbers, like (0.9, 0.999)")
    return _number("betas", numbers[0], _BETA), _number("betas", numbers[1], _BETA)


def _blocks(value: Any) -> Blocks | str | None:
    if value is None or isinstance(value, Blocks):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 3:  # the plain form, as state dicts hold it
        return Blocks(*value)
    if not isinstance(value, str):
        raise TypeError(f"blocks={value!r}: {_BLOCKS}")
    if value not in ("cosine", "sticky"):
        raise ValueError(f"blocks={value!r}: {_BLOCKS}")
    return value


def _compensation(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"compensation={value!r}: {_ALLOWED}")
    if value not in _COMPENSATIONS:
        raise ValueError(f"compensation={value!r}: {_ALLOWED}")
    return value


def _switch(name: str, value: Any, *, optional: bool) -> bool | None:
    value = _python(value)
    if isinstance(value, bool) or (optional and value is None):
        return value
    raise TypeError(f"{name}={value!r}: must be True{', False or None' if optional else ' or False'}")


def _check_backends(group: Mapping[str, Any]) -> None:
    foreach, fused = (group.get(name) for name in _BACKENDS)
    compensation = group.get("compensation")
    if fused and compensation == "stochastic":
        raise ValueError("fused=True with compensation='stochastic': the kernel rounds to nearest; use fused=None")
    if group.get("differentiable") and compensation in ("kahan", "stochastic"):
        raise ValueError(
            f"compensation={compensation!r} with differentiable=True: autograd cannot look into bits; use None"
        )
    if foreach and fused:
        raise ValueError(
            "foreach=True with fused=True: ask for one; fused leaves what it cannot step to foreach anyway"
        )
    for name in _BACKENDS:
        if group.get(name) and group.get("differentiable"):
            raise ValueError(
                f"{name}=True with differentiable=True: autograd needs one tensor at a time; use {name}=False"
            )

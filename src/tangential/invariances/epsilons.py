"""Epsilons: where models write them, and how they are shrunk to nothing.

An epsilon is a small positive constant that keeps a denominator, a root or a logarithm away from zero, so what it is
added to is never negative. That, and not how it is written, makes a number an epsilon here: `var + 1e-6`,
`var.add_(eps)`, `var - (-1e-6)`, a one-element buffer or `torch.full_like(var, 1e-6)` are all the same, and `y + 1e-3`
with a `y` of both signs is a shift and keeps its value, since shrinking it would call a function invariant that is not.
Further places are the `eps` argument of normalising functions and operators, by the name in their schema, and
attributes of modules that are named like an epsilon. Whatever is accepted with shrunk epsilons is measured again with
the real ones (`residuals.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-40
"""What every epsilon is shrunk to: far below the rounding of a variance, yet not 0, where a dead channel gives NaN,
and not so small that a gradient with powers of its reciprocal overflows."""
TINIEST = 1e-200
"""The same where no gradient is taken: many weights in a row may be scaled down before it shows."""

_LARGEST = 0.05
_LARGEST_BESIDE_ZERO = 1e-3
"""Where what it is added to has zeros, a larger number does more than to guard: it is the value there."""
_ROUNDING = 1e-12
_MOST_ELEMENTS = 1 << 16
_ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")
_SUBTRACTIONS = ("sub", "sub_", "subtract", "subtract_", "__sub__", "__isub__")
_EPS_NAME = re.compile(r"(^|_)eps(ilon)?\d*($|_)")
_EPS_POSITION: dict[Callable[..., Any], int] = {
    F.batch_norm: 7,
    F.instance_norm: 7,
    F.layer_norm: 4,
    F.group_norm: 4,
    F.rms_norm: 3,
    torch.batch_norm: 7,
    torch.instance_norm: 7,
    torch.layer_norm: 4,
    torch.group_norm: 4,
    torch.rms_norm: 3,
    torch.native_batch_norm: 7,
    torch.native_layer_norm: 4,
    torch.native_group_norm: 7,
}

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def without_eps(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tiny: float
) -> Arguments:
    """The arguments of a call of `func`, called `name`, with its epsilons shrunk to `tiny`."""
    position = _eps_position(func)
    if position is not None:
        if len(args) > position:
            return (*args[:position], tiny, *args[position + 1 :]), kwargs
        return args, {**kwargs, "eps": tiny}
    if name in _ADDITIONS or name in _SUBTRACTIONS:
        return _sum_without_eps(name, args, kwargs, tiny)
    return args, kwargs


def _eps_position(func: Callable[..., Any]) -> int | None:
    if func in _EPS_POSITION:
        return _EPS_POSITION[func]
    if isinstance(func, torch._ops.OpOverloadPacket):
        func = getattr(func, func.overloads()[0])
    schema = getattr(func, "_schema", None)  # an operator, as graphs of torch.export call them
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    return names.index("eps") if "eps" in names else None


def _sum_without_eps(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tiny: float) -> Arguments:
    """`a + b` or `a - b`, where one may be an epsilon and the other what it guards."""
    first, second = (*args, kwargs.get("other"), None)[:2] if len(args) < 2 else args[:2]
    sign = -1 if name in _SUBTRACTIONS else 1
    factor = sign * kwargs.get("alpha", 1)
    if isinstance(second, ShrunkEpsilon):  # an attribute that is named like an epsilon, and may be none after all
        small = tiny / factor if _is_epsilon(second.real_value, factor, first) else second.real_value
        return ((first, small, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "other": small})
    if _is_epsilon(second, factor, first):
        small = tiny / factor
        shrunk = torch.full_like(second, small) if isinstance(second, Tensor) else small
        return ((first, shrunk, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "other": shrunk})
    if sign == 1 and not name.endswith("_") and _is_epsilon(first, 1, second):
        shrunk = torch.full_like(first, tiny) if isinstance(first, Tensor) else tiny
        return (shrunk, *args[1:]), kwargs
    return args, kwargs


def _is_epsilon(value: Any, factor: Any, guarded: Any) -> bool:
    constant = _constant(value)
    if constant is None or not isinstance(factor, (int, float)) or not isinstance(guarded, Tensor):
        return False
    if not 0 < constant * factor <= _LARGEST or not guarded.is_floating_point() or not guarded.numel():
        return False
    try:
        low, high = (float(bound) for bound in guarded.detach().aminmax())
    except (RuntimeError, NotImplementedError):  # sparse, nested, meta, or inside a transformation: no values to see
        return constant * factor <= _LARGEST_BESIDE_ZERO
    # A variance written as a difference of means may end a little below zero.
    return low > 0 or (low >= -_ROUNDING * high and constant * factor <= _LARGEST_BESIDE_ZERO)


def _constant(value: Any) -> float | None:
    """The number that `value` is: a Python or NumPy number, or a tensor that has it in every element."""
    if isinstance(value, Real) and not isinstance(value, (bool, int)):
        return float(value)
    if not isinstance(value, Tensor) or value.requires_grad or not value.is_floating_point():
        return None
    if not 0 < value.numel() <= _MOST_ELEMENTS:
        return None
    try:
        first = float(value.detach().flatten()[0])
        return first if value.numel() == 1 or bool((value == first).all()) else None
    except (RuntimeError, NotImplementedError):
        return None


class ShrunkEpsilon(float):
    """`TINY`, with the value that it stands for."""

    real_value: float

    def __new__(cls, real_value: float) -> ShrunkEpsilon:
        """A number that torch takes as a float."""
        shrunk = super().__new__(cls, TINY)
        shrunk.real_value = real_value
        return shrunk


class Epsilons:
    """The epsilons that a model keeps in its modules' attributes.

    Examples:
        >>> norm = nn.LayerNorm(4)
        >>> epsilons = Epsilons(norm)
        >>> epsilons.shrink(); norm.eps
        1e-40
        >>> epsilons.restore(); norm.eps
        1e-05
    """

    def __init__(self, model: nn.Module):
        self._found = list(_eps_attributes(model))

    def shrink(self) -> None:
        """Set all of them to `TINY`."""
        for module, name, value in self._found:
            setattr(module, name, ShrunkEpsilon(value))

    def restore(self) -> None:
        """Give all of them the model's own values back."""
        for module, name, value in self._found:
            setattr(module, name, value)


def _eps_attributes(model: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and 0 < value <= _LARGEST and _EPS_NAME.search(name):
                yield module, name, value

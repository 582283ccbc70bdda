"""Float64 arithmetic without epsilons, imposed on any model from outside.

Scale invariance of a real network is approximate twice over: float32 rounds, and every normalisation adds an epsilon.
In float64 with the epsilons taken away it is exact to about 1e-14, and one threshold tells invariant from variant.
Models cast down and hide epsilons in many places, so `Float64Mode` looks at every torch function that the model calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

TINY = 1e-20
"""What every epsilon is shrunk to: far below float64's rounding, yet not 0, where a dead channel would give NaN."""

_FLOAT64 = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
_CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)
_ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")
_LARGEST_HARD_CODED = 1e-3
_LARGEST_ATTRIBUTE = 0.05
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


class Float64Mode(TorchFunctionMode):
    """While active, every torch function computes in float64 and, unless `keep_eps`, with epsilons shrunk to `TINY`."""

    def __init__(self, keep_eps: bool = False):
        super().__init__()
        self.keep_eps = keep_eps

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with its arguments converted to float64."""
        if func in _CASTS:
            func = torch.Tensor.double
        elif getattr(func, "__name__", "") == "_grouped_mm":
            func = _grouped_product
        args, kwargs = _float64_arguments(func, args, kwargs or {})
        if not self.keep_eps:
            args, kwargs = _without_eps(func, args, kwargs)
        return func(*args, **kwargs)


def _float64_arguments(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):  # attributes, such as a gradient that must keep its type
        return args, kwargs
    kept = 1 if _is_in_place(name) else 0
    return (*args[:kept], *map(_to_float64, args[kept:])), {name: _to_float64(value) for name, value in kwargs.items()}


def _is_in_place(name: str) -> bool:
    """Whether the function must get the very tensor it is to change."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")


def _to_float64(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return float64_dtype(value)
    if isinstance(value, Tensor):
        return value.to(float64_dtype(value.dtype))
    if type(value) in (list, tuple):
        return type(value)(map(_to_float64, value))
    return value


def _grouped_product(rows: Tensor, matrices: Tensor, *, offs: Tensor | None = None, **options: Any) -> Tensor:
    """`torch.nn.functional.grouped_mm` as mixtures of experts call it, whose kernels know no float64.

    Args:
        rows: `(n, k)`, cut into groups.
        matrices: `(groups, k, m)`.
        offs: `(groups,)`, where each group ends.
        **options: Passed on where this is another use of it.

    Returns:
        `(n, m)`: each row times its group's matrix.
    """
    if rows.ndim != 2 or matrices.ndim != 3 or offs is None or any(value is not None for value in options.values()):
        return F.grouped_mm(rows, matrices, offs=offs, **options)
    parts = rows.tensor_split(offs.tolist()[:-1])
    return torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])


def float64_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float64 for the narrower floating point types, complex128 for complex64, and any other type itself."""
    return _FLOAT64.get(dtype, dtype)


def _without_eps(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if func in _EPS_POSITION:
        return _norm_without_eps(func, args, kwargs)
    if getattr(func, "__name__", "") in _ADDITIONS:
        return tuple(map(_shrunk, args)), {name: _shrunk(value) for name, value in kwargs.items()}
    return args, kwargs


def _norm_without_eps(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    position = _EPS_POSITION[func]
    if len(args) > position:
        return (*args[:position], TINY, *args[position + 1 :]), kwargs
    return args, {**kwargs, "eps": TINY}


def _shrunk(value: Any) -> Any:
    return TINY if isinstance(value, float) and 0 < value <= _LARGEST_HARD_CODED else value


class Epsilons:
    """The epsilons that a model keeps in its modules' attributes.

    Example:
        >>> norm = nn.LayerNorm(4)
        >>> epsilons = Epsilons(norm)
        >>> epsilons.shrink(); norm.eps
        1e-20
        >>> epsilons.restore(); norm.eps
        1e-05
    """

    def __init__(self, model: nn.Module):
        self._found = list(_eps_attributes(model))

    def shrink(self) -> None:
        """Set all of them to `TINY`."""
        for module, name, _ in self._found:
            setattr(module, name, TINY)

    def restore(self) -> None:
        """Give all of them the model's own values back."""
        for module, name, value in self._found:
            setattr(module, name, value)


def _eps_attributes(model: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and 0 < value <= _LARGEST_ATTRIBUTE and _EPS_NAME.search(name):
                yield module, name, value

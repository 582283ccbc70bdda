"""Float64 arithmetic without epsilons, imposed on any model from outside.

Scale invariance of a real network is approximate twice over: float32 rounds, and every normalisation adds an epsilon.
In float64 with the epsilons taken away it is exact to about 1e-14, and one threshold separates invariant from variant.
Models cast down and write epsilons in many places, so `Float64Mode` looks at every torch function that the model calls:
arguments are converted up, requests for a narrower type are turned into requests for float64, and what a function
returns in a narrower type (a factory such as `torch.zeros`, which follows the process-wide default type) is converted
up as well. So the default type of the process stays as it is, and other threads notice nothing. Inside kernels and
functions of torch that are opaque to the mode, the type of the arguments decides, and that is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tangential.invariances.epsilons import TINY, without_eps

_FLOAT64 = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_CASTS = {"float": "double", "half": "double", "bfloat16": "double", "cfloat": "cdouble", "chalf": "cdouble"}
_NARROW_TYPES = ("FloatTensor", "HalfTensor", "BFloat16Tensor")
_ATTRIBUTES = ("__get__", "__set__", "__delete__")


class Float64Mode(TorchFunctionMode):
    """While active, every torch function computes in float64 and, unless `eps` is None, with epsilons shrunk to it.

    Args:
        eps: What epsilons are shrunk to; None leaves them as they are.
        held: Storages, by address, on which writes that no gradient passes through are left out: a teacher that
            follows the weights stays where it is.
    """

    def __init__(self, eps: float | None = TINY, held: Collection[int] = ()):
        super().__init__()
        self.eps = eps
        self.held = held

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with its arguments converted to float64."""
        name = function_name(func)
        if self.held and args and _is_in_place(name) and self._is_held(args):
            return args[0]
        func = _replaced(func, name)
        args, kwargs = _float64_arguments(name, args, kwargs or {})
        if self.eps is not None:
            args, kwargs = without_eps(func, name, args, kwargs, self.eps)
        try:
            result = func(*args, **kwargs)
        except RuntimeError as error:
            if _is_in_place(name) or (other := _second_try(error, args, kwargs)) is None:
                raise
            result = func(*other[0], **other[1])
        return result if name in _ATTRIBUTES or _is_in_place(name) else _float64_result(result)

    def _is_held(self, args: tuple[Any, ...]) -> bool:
        follows = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in args)
        return not follows and isinstance(args[0], Tensor) and storage_address(args[0]) in self.held


def function_name(func: Callable[..., Any]) -> str:
    """The name of a torch function, without the overload of an operator: `add_` for `aten.add_.Tensor`."""
    return getattr(func, "__name__", str(func)).partition(".")[0]


def storage_address(tensor: Tensor) -> int:
    """Address of the memory that a tensor and its views share; 0 for tensors without memory."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def _replaced(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    if name in _CASTS and func is getattr(Tensor, name):
        return getattr(Tensor, _CASTS[name])
    return _grouped_product if name == "_grouped_mm" else func


def _float64_arguments(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if name in _ATTRIBUTES:  # such as a gradient, which must keep its type
        return args, kwargs
    if (
        name == "view"
        and args
        and isinstance(args[0], Tensor)
        and not (args[0].is_floating_point() or args[0].is_complex())
    ):
        return args, kwargs  # bits read as another type of the same size
    if _is_in_place(name) and args:
        narrow = args[0].dtype if isinstance(args[0], Tensor) and args[0].dtype in _FLOAT64 else None
        if narrow is not None:  # a tensor of the user's, which keeps its type
            return (args[0], *(_narrowed(arg, narrow) for arg in args[1:])), kwargs
        return (args[0], *map(_to_float64, args[1:])), _float64_named(kwargs)
    converted = tuple(map(_to_float64, args))
    if name == "type" and len(args) > 1:
        converted = (converted[0], _float64_type(args[1]), *converted[2:])
    return converted, _float64_named(kwargs)


def _float64_named(kwargs: dict[str, Any]) -> dict[str, Any]:
    # `out` is written to, so it must be the very tensor.
    return {name: value if name == "out" else _to_float64(value) for name, value in kwargs.items()}


def _is_in_place(name: str) -> bool:
    """Whether the function must get the very tensor it is to change."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")


def _to_float64(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return float64_dtype(value)
    if isinstance(value, Tensor):
        return value.to(_FLOAT64[value.dtype]) if value.dtype in _FLOAT64 else value
    if type(value) in (list, tuple):
        return type(value)(map(_to_float64, value))
    return value


def _second_try(error: RuntimeError, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Other arguments for a call that failed because of float64, or None if that was not the reason."""
    if "overflow" in str(error) and kwargs.get("dtype") is None:
        # A factory, asked for a number that only float64 holds, such as the least one.
        return args, {**kwargs, "dtype": torch.float64}
    if "Double" in str(error):  # some kernels have no float64, such as those that quantise
        return tuple(map(_to_float32, args)), {name: _to_float32(value) for name, value in kwargs.items()}
    return None


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float64 else value


def _narrowed(value: Any, dtype: torch.dtype) -> Any:
    wide = isinstance(value, Tensor) and value.dtype in (torch.float64, torch.complex128)
    return value.to(dtype) if wide and value.is_complex() == dtype.is_complex else value


def _float64_type(kind: Any) -> Any:
    """The argument of `Tensor.type`: a dtype, a class such as `torch.FloatTensor`, or the name of one."""
    if isinstance(kind, torch.dtype):
        return float64_dtype(kind)
    words = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    package, _, last = words.rpartition(".")
    return f"{package}.DoubleTensor" if last in _NARROW_TYPES else kind


def _float64_result(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.dtype not in _FLOAT64:
            return value
        if value.is_leaf and value.requires_grad:
            return value.detach().to(_FLOAT64[value.dtype]).requires_grad_()
        return value.to(_FLOAT64[value.dtype])
    if type(value) in (list, tuple):
        return type(value)(map(_float64_result, value))
    return value


def _grouped_product(rows: Tensor, matrices: Tensor, *, offs: Tensor | None = None, **options: Any) -> Tensor:
    """`torch.nn.functional.grouped_mm` as mixtures of experts call it, whose kernels have no float64.

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
    """Float64 for narrower floating point types, complex128 for narrower complex ones, any other type itself."""
    return _FLOAT64.get(dtype, dtype)

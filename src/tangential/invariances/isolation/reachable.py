"""What a function's code can reach: the module-level names and the methods it mentions, found without running it."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

from torch import nn

_WITHOUT_STATE = {"torch", "numpy", "triton", "tangential", "scipy", "pytest", "_pytest", *sys.stdlib_module_names}
_METHODS = (types.FunctionType, staticmethod, classmethod, property)
_WITH_STATE = {"torch.nn", "torch.distributions", "torch.optim", "collections", "types"}


def is_foreign(thing: Any) -> bool:
    """Whether an object, class or function belongs to a package that keeps no state of the user's.

    Examples:
        >>> import json
        >>> is_foreign(json.dumps), is_foreign(nn.ReLU()), is_foreign(nn.ReLU)
        (True, False, True)
    """
    if isinstance(thing, nn.Module):
        return False
    named = thing if isinstance(thing, (type, types.FunctionType)) else type(thing)
    module = getattr(named, "__module__", None) or ""
    if module.startswith(tuple(f"{known}." for known in _WITH_STATE)) or module in _WITH_STATE:
        return isinstance(thing, (type, types.FunctionType))
    return module.partition(".")[0] in _WITHOUT_STATE


def mentioned(function: types.FunctionType) -> set[str]:
    """The names that a function's code mentions, of globals and attributes alike, functions inside it included."""
    return set(_names(function.__code__))


def namespaces(function: types.FunctionType, names: set[str]) -> list[dict[str, Any]]:
    """Where the names of a function are looked up: its globals, and those of the modules that it mentions."""
    modules = [value for name in names if _is_open_module(value := function.__globals__.get(name))]
    return [function.__globals__, *map(vars, modules)]


def methods_used(kind: type) -> tuple[tuple[type, str], ...]:
    """The methods that running an instance of a class may call, as `(class that defines it, name)`.

    They are `forward` and `__call__`, and what these mention by name, and so on; every method of a class that has
    neither.
    """
    defined = [owner for owner in kind.__mro__ if not is_foreign(owner)]
    todo = [name for name in ("forward", "__call__") if any(name in vars(owner) for owner in defined)]
    if not todo and not issubclass(kind, nn.Module):
        return tuple((o, name) for o in defined for name, value in vars(o).items() if isinstance(value, _METHODS))
    found: dict[tuple[type, str], None] = {}
    while todo:
        name = todo.pop()
        for owner in (o for o in defined if name in vars(o) and (o, name) not in found):
            found[owner, name] = None
            code = getattr(inspect.unwrap(vars(owner)[name]), "__code__", None)
            todo.extend(_names(code) if code is not None else ())
    return tuple(found)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_open_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] not in _WITHOUT_STATE

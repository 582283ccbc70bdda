"""Settings changed by text, as typed on a command line (`optimizers.sgd.lr=0.05`), checked against the code's types."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from inspect import Parameter, isclass, signature
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tangential.experiments.settings.suggestion import did_you_mean

S = TypeVar("S")

FIXED = {"fixed": True}
"""The metadata of a dataclass field that no override may change."""

FLAT = {"flat": True}
"""The metadata of a dataclass field whose own fields are overridden by their bare names: `clip_norm=1`."""

_WORDS = {"true": True, "false": False, "none": None}
_LEAVES = {bool: "true or false", int: "int", float: "finite float", str: "text", NoneType: "none"}


def override(settings: S, assignment: str) -> S:
    """Change one setting of a value made of frozen dataclasses, mappings and `partial`s.

    Args:
        settings: Where to start; it is not changed.
        assignment: `field=value`, the field a dotted path. A value is read as the type the field has in the code: `20`,
            `1e-3`, `true`, `none`, `0.9,0.99`, or plain text.

    Returns:
        A new value of the same type.

    Raises:
        ValueError: No `=`, an unknown field (the error lists the known ones) or a value of another type; and what the
            settings themselves raise for a value out of range.

    Examples:
        >>> override({"optimizers": {"sgd": partial(dict, lr=0.1)}}, "optimizers.sgd.lr=1")
        {'optimizers': {'sgd': functools.partial(<class 'dict'>, lr=1.0)}}
        >>> override({"epochs": 20}, "epochs=1.5")
        Traceback (most recent call last):
        ...
        ValueError: epochs=1.5: expected int, like 20
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ValueError(f"{assignment!r} is not an override; write field=value, as in epochs=20")
    return _changed(settings, path.split("."), text, assignment)


def _changed(owner: Any, path: list[str], text: str, assignment: str) -> Any:
    known = _known(owner)
    name, *rest = path
    if name not in known:
        where = assignment.partition("=")[0].removesuffix(".".join(path)).rstrip(".")
        listed = _listed(known) + did_you_mean(name, known)
        raise ValueError(f"{assignment}: {where or 'the recipe'} has no {name!r}; it has {listed}")
    if holder := _holder(owner, name):
        return replace(owner, **{holder: _changed(getattr(owner, holder), path, text, assignment)})
    old, kind = known[name]
    if rest and not _known(old):
        raise ValueError(f"{assignment}: {name} is one value, not a group of settings")
    new = _changed(old, rest, text, assignment) if rest else _read(text, kind, old, assignment)
    if isinstance(owner, Mapping):
        return {**owner, name: new}
    if isinstance(owner, partial):
        return partial(owner.func, *owner.args, **{**owner.keywords, name: new})
    return replace(owner, **{name: new})


def _known(owner: Any) -> dict[str, tuple[Any, Any]]:
    """The settings a value holds: name -> (present value, its type); none if the value is not a group of settings."""
    if isinstance(owner, Mapping):
        return {name: (value, type(value)) for name, value in owner.items()}
    if isinstance(owner, partial):
        return _arguments(owner)
    if is_dataclass(owner) and not isclass(owner):
        kinds = get_type_hints(type(owner))
        found: dict[str, tuple[Any, Any]] = {}
        for field in fields(owner):
            value = getattr(owner, field.name)
            if field.metadata == FLAT:
                found |= _known(value)
            elif field.metadata != FIXED:
                found[field.name] = value, kinds[field.name]
        return found
    return {}


def _holder(owner: Any, name: str) -> str:
    """The field marked `FLAT` that holds the setting of this name; empty if the owner holds it itself."""
    flat = [field.name for field in fields(owner) if field.metadata == FLAT] if is_dataclass(owner) else []
    return next((each for each in flat if name in _known(getattr(owner, each))), "")


def _arguments(call: partial[Any]) -> dict[str, tuple[Any, Any]]:
    """The arguments that were given, and those that have a default; the others are the caller's to give."""
    try:
        values = {name: p.default for name, p in signature(call.func).parameters.items()}
        kinds = get_type_hints(call.func.__init__ if isclass(call.func) else call.func)
    except (TypeError, ValueError):  # a built-in has neither argument names nor types
        values, kinds = {}, {}
    values = {name: value for name, value in values.items() if value is not Parameter.empty} | call.keywords
    return {name: (value, kinds.get(name, type(value))) for name, value in values.items()}


def _read(text: str, kind: Any, old: Any, assignment: str) -> Any:
    """The text as a value of this type."""
    if inner := _known(old):
        raise ValueError(f"{assignment}: this is a group of settings; set one of {_listed(inner)}")
    expected = _phrase(kind)
    if not expected:
        raise ValueError(f"{assignment}: this cannot be set by text")
    for value in (_literal(text), text):
        try:
            return _fit(value, kind)
        except TypeError:
            continue
    raise ValueError(f"{assignment}: expected {expected}" + (f", like {_typed(old)}" if old is not None else ""))


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _fit(value: Any, kind: Any) -> Any:
    """The value as an instance of this type, or TypeError: an int may stand for a float, nothing else is converted."""
    kind = _without_literal(kind)
    if get_origin(kind) in (Union, UnionType):
        for choice in get_args(kind):
            try:
                return _fit(value, choice)
            except TypeError:
                continue
    elif get_origin(kind) is tuple and isinstance(value, tuple | list):
        inner = get_args(kind)
        inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(inner) == len(value):
            return tuple(_fit(item, each) for item, each in zip(value, inner, strict=True))
    elif kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    elif kind in _LEAVES and kind is not float and type(value) is kind:
        return value
    raise TypeError


def _phrase(kind: Any) -> str:
    """What may be typed for this type; empty if nothing."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(filter(None, map(_phrase, get_args(kind))))
    if get_origin(kind) is tuple:
        inner = [_phrase(each) for each in get_args(kind) if each is not Ellipsis]
        count = "" if Ellipsis in get_args(kind) else f"{len(inner)} "
        return f"{count}values ({inner[0]}) with commas between"
    return _LEAVES.get(_without_literal(kind), "")


def _without_literal(kind: Any) -> Any:
    """The type of the texts that a type lists: recipes know more ("detected"), and whoever takes one refuses others."""
    return type(get_args(kind)[0]) if get_origin(kind) is Literal else kind


def _typed(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, tuple):
        return ",".join(map(_typed, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names)

"""The record of settings: frozen dataclasses and `partial`s as JSON, back again, and what two records differ in.

describe       settings -> JSON's own types, as `settings.json` holds them
as_recorded    a record and settings of the same classes -> the recorded settings
differences    two records -> the paths at which they differ
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any


def describe(value: Any) -> Any:
    """Record of settings in JSON's own types: what is compared, stored and shown.

    A dataclass becomes its class and fields, a `partial` its class, the arguments that were given and the defaults that
    fill the rest, a class or function its qualified name, a tuple a list.

    Args:
        value: A setting of a recipe.

    Returns:
        None, a bool, number, string, list, or a dict of these.

    Raises:
        TypeError: A value of a kind that has no such form.

    Examples:
        >>> from statistics import NormalDist
        >>> describe({"betas": (0.9, 0.99)})
        {'betas': [0.9, 0.99]}
        >>> describe(partial(NormalDist, sigma=2.0))
        {'class': 'statistics.NormalDist', 'arguments': {'sigma': 2.0}, 'defaults': {'mu': 0.0}}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, partial):
        return {
            "class": _qualified(value.func),
            "arguments": describe(value.keywords),
            "defaults": describe(_defaults(value)),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": _qualified(type(value))} | {f.name: describe(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "__qualname__"):
        return _qualified(value)
    raise TypeError(f"a setting of type {type(value).__name__} has no JSON form: {value!r}")


def as_recorded(value: Any, recorded: Any, where: Path) -> Any:
    """Settings with the values of a record.

    Args:
        value: Settings of the same classes.
        recorded: What `describe` made of the run's.
        where: The run folder, for the error.

    Raises:
        ValueError: The classes differ.

    Examples:
        >>> from statistics import NormalDist
        >>> recorded = describe(partial(NormalDist, sigma=2.0))
        >>> as_recorded(partial(NormalDist, sigma=1.0), recorded, Path("runs/sgd-seed0")).keywords
        {'sigma': 2.0}
    """
    if recorded == describe(value):
        return value
    if isinstance(value, partial) or is_dataclass(value):
        if not isinstance(recorded, dict) or recorded.get("class") != describe(value)["class"]:
            raise ValueError(f"{where} was made by another version: it has {recorded!r:.200} for {value!r:.200}")
    if isinstance(value, partial):
        arguments = recorded["arguments"]
        return partial(value.func, **{n: as_recorded(value.keywords.get(n), arguments[n], where) for n in arguments})
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if each.name in recorded]
        return replace(value, **{name: as_recorded(getattr(value, name), recorded[name], where) for name in names})
    return tuple(recorded) if isinstance(recorded, list) else recorded


def differences(found: Any, asked: Any, name: str = "") -> Iterator[str]:
    """Paths at which two records differ, each with both values.

    A default that `found` does not have belongs to an argument that is newer than the record, so it is no difference.
    Neither are the paper's numbers, which are shown beside a result and decide nothing of it.

    Args:
        found: The record of a run.
        asked: The record to compare it with.
        name: The path of both.

    Examples:
        >>> list(differences({"lr": 0.1, "defaults": {}}, {"lr": 0.2, "defaults": {"eps": 0.0}}))
        ['lr: 0.1 there, 0.2 asked']
    """
    if isinstance(found, dict) and isinstance(asked, dict):
        same = asked.keys() - found.keys() if name.split(".")[-1] == "defaults" else set() if name else {"paper"}
        for key in [*found, *(key for key in asked if key not in found)]:
            if key not in same:
                yield from differences(found.get(key), asked.get(key), f"{name}.{key}".lstrip("."))
    elif found != asked:
        yield f"{name}: {found!r} there, {asked!r} asked"


def _qualified(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _defaults(call: partial[Any]) -> dict[str, Any]:
    """The arguments a `partial` leaves to its function's own defaults."""
    return {
        name: argument.default
        for name, argument in signature(call.func).parameters.items()
        if argument.default is not Parameter.empty and name not in call.keywords
    }

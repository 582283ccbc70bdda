"""Where a result comes from, as JSON's own types: the settings that decide it and the environment it was made in."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from typing import Any


def describe(value: Any) -> Any:
    """Turn settings into JSON's own types: what is compared, stored and shown.

    A dataclass becomes its class and fields, a `partial` its class, the arguments that were given and the defaults that
    fill the rest, a class or function its qualified name, a tuple a list.

    Args:
        value: A setting of a recipe.

    Returns:
        None, a bool, number, string, list, or a dict of these.

    Raises:
        TypeError: A value of a kind that has no such form.

    Example:
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


def environment(*, command: str, threads: int) -> dict[str, Any]:
    """Gather what a result may depend on besides its settings.

    Args:
        command: The command line, as the user would type it again.
        threads: How many threads the tensor library may use.

    Returns:
        Versions, platform, number of CPUs, the git commit of the current folder if it has one, and the arguments.

    Example:
        >>> environment(command="tangential train digits", threads=1)["command"]
        'tangential train digits'
    """
    return {
        "command": command,
        "tangential": _version("tangential"),
        "torch": _version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "git_commit": _git_commit(),
    }


def _qualified(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _defaults(call: partial[Any]) -> dict[str, Any]:
    """The arguments a `partial` leaves to its function's own defaults."""
    return {
        name: argument.default
        for name, argument in signature(call.func).parameters.items()
        if argument.default is not Parameter.empty and name not in call.keywords
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None

"""Values of JSON files that anybody may have written: numbers within bounds, structures of bounded depth.

Python's JSON reader accepts integers of 4,000 digits, which no float holds, and thousands of brackets, on which every
later walk over the value ends in a RecursionError. What passes here can be scaled, squared, averaged and drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np

LARGEST = 1e100
"""Largest absolute value of a measurement: its square is finite, and so are sums of squares over any number of runs."""

DEEPEST = 64
"""Deepest nesting of a settings file; a recipe has about eight levels."""

_INT64 = 1 << 63


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number within the bounds of a measurement; true and false are none.

    Examples:
        >>> is_number(0.5), is_number(True), is_number(float("nan")), is_number(10**400)
        (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer that NumPy holds: a seed, an epoch, a step.

    Examples:
        >>> is_count(3), is_count(True), is_count(3.0), is_count(1 << 70)
        (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64


def check_depth(value: Any) -> None:
    """Raise ValueError for lists and objects that are nested too deeply.

    Examples:
        >>> check_depth([[["deep"]]])
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [each for inner in level for each in _inside(inner)]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def finite_or_none(values: np.ndarray, digits: int) -> list[float | None]:
    """Numbers for JSON, rounded to significant digits; it has none for NaN and infinity.

    Examples:
        >>> finite_or_none(np.array([0.123456, np.nan]), digits=3)
        [0.123, None]
    """
    there = np.isfinite(values)
    return [float(f"{x:.{digits}g}") if ok else None for x, ok in zip(values.tolist(), there.tolist(), strict=True)]

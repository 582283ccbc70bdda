"""Lower bounds of settings, checked with one sentence: `width=0: must be at least 1`.

    check_at_least(1, channels=channels, classes=classes, width=width)
    check_at_least(0, workers=self.workers)
    check_at_least(1, limit=self.limit, note="or none for all images")

The first value out of bounds is named with what it is. None passes: it stands for "no limit". A tuple passes if each of
its elements does. NaN is out of every bound.
"""

from __future__ import annotations

from collections.abc import Iterable

Bounded = float | Iterable[float] | None


def check_at_least(least: float, /, *, note: str = "", **values: Bounded) -> None:
    """Lower bound of some settings.

    Args:
        least: The smallest value that is allowed.
        note: What else is allowed, for the end of the sentence: `or none for all images`.
        values: The settings by name: a number, a collection of numbers, or None, which passes.

    Raises:
        ValueError: A value is less, or not a number; the error names the setting, the value and the bound.

    Examples:
        >>> check_at_least(1, width=16, limit=None, at=(1, 10))
        >>> check_at_least(1, limit=0, note="or none for all images")
        Traceback (most recent call last):
        ...
        ValueError: limit=0: must be at least 1, or none for all images
    """
    for name, value in values.items():
        numbers = () if value is None else value if isinstance(value, Iterable) else (value,)
        if not all(number >= least for number in numbers):
            raise ValueError(f"{name}={value}: must be at least {least}" + (f", {note}" if note else ""))

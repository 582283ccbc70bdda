"""How much of a data set is used."""

from __future__ import annotations


def check_limits(of: str, **limits: int | None) -> None:
    """Raise ValueError for a limit below one.

    Args:
        of: What is counted, for the error: `images`.
        limits: The limits by name; None for no limit.

    Example:
        >>> check_limits("images", limit=0)
        Traceback (most recent call last):
        ...
        ValueError: limit=0: must be at least 1, or none for all images
    """
    for name, value in limits.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: must be at least 1, or none for all {of}")

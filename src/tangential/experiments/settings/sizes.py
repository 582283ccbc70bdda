"""How large a net may be."""

from __future__ import annotations


def check_sizes(**sizes: int) -> None:
    """Raise ValueError for a size below one.

    Args:
        sizes: The sizes by name.

    Example:
        >>> check_sizes(width=0)
        Traceback (most recent call last):
        ...
        ValueError: width=0: a net needs at least one
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value}: a net needs at least one")

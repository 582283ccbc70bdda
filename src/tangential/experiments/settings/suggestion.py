"""What a mistyped name may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause with the closest known name, or an empty text if none is close; it ends the sentence before it.

    Args:
        name: What was typed.
        known: What there is.

    Examples:
        >>> did_you_mean("digts", ["digits", "imagenet9"])
        "; did you mean 'digits'?"
        >>> did_you_mean("x", ["digits"])
        ''
    """
    lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""

"""Faults of data: the error that names a file in one line, and the warning that counts and names what was left out.

Every reader of `data` uses these two, so that a damaged file is reported alike whatever it holds, and whatever process
reads it.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Sequence

SHOWN = 5
"""How many of the things that were left out are named; the others are only counted."""


_MACHINE = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "EIO", "EBUSY", "EAGAIN"),
        *("EINTR", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
}


class DataError(ValueError):
    r"""A file that cannot be used: one line that names it.

    A dataloader's worker hands an error over as its class and the text of its traceback. Made from such a text, the
    error is the line that it ends with, so it is the same with workers and without. Control characters and lone
    surrogates, which names of files may have, are escaped.

    Examples:
        >>> str(DataError("a\nb.png is empty"))
        'a\\nb.png is empty'
        >>> start = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ..."
        >>> str(DataError(start + "\nx.DataError: a.png is empty"))
        'a.png is empty'
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught ") and "\nOriginal Traceback" in message:
            message = message.rstrip().rpartition(f"{type(self).__name__}: ")[2]
        super().__init__(printable(message))


def printable(text: object) -> str:
    r"""Text in one line: what cannot be printed is escaped.

    Examples:
        >>> printable("a\tb\x1b[31m")
        'a\\tb\\x1b[31m'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(text))


def reason(error: BaseException) -> str:
    r"""First line of an error, without its final colon or full stop; its class if it has no text.

    Examples:
        >>> reason(EOFError()), reason(ValueError("cut:\nsee the file"))
        ('EOFError', 'cut')
    """
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().partition("\n")[0].rstrip(" :.") or type(error).__name__


def no_damage(error: BaseException) -> bool:
    """Whether an error comes from the machine (no permission, too many open files, no memory), not from the file."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _MACHINE)


def warn_left_out(source: object, what: str, left_out: Sequence[str], *, count: int | None = None) -> None:
    """Warn once of all that a reader left out; nothing happens if it is nothing.

    Args:
        source: The data set or the folder.
        what: What was left out: `boxes`.
        left_out: A line on each: its name and why.
        count: How many there are with those that were not left out.

    Examples:
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     warn_left_out("fsdd", "clips", ["a.wav (silent)"], count=9)
        >>> print(caught[0].message)
        fsdd: 1 of 9 clips left out: a.wav (silent)
    """
    if not left_out:
        return
    named = list(map(printable, left_out[:SHOWN]))
    if len(left_out) > SHOWN:
        named.append(f"and {len(left_out) - SHOWN} more")
    of = "" if count is None else f"of {count} "
    warnings.warn(f"{printable(source)}: {len(left_out)} {of}{what} left out: {', '.join(named)}", stacklevel=3)

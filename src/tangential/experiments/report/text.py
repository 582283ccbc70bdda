"""Names from run folders, models and files as text that commands neither a terminal nor a plot."""

from __future__ import annotations

import unicodedata


def escaped(text: str) -> str:
    r"""Write control characters, line breaks, bidirectional marks and lone surrogates as escapes; all else as it is.

    Whatever is printed passes through here. A name in a file may come from a stranger; raw, an escape sequence in it
    could clear the screen, rename the window or hide what follows.

    Examples:
        >>> print(escaped("sgd\x1b[2J\r\n and café"))
        sgd\x1b[2J\r\n and café
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped_character, text))


def _escaped_character(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # other spaces than " " do no harm
        return character
    return character.encode("unicode_escape").decode()


def shortened(name: str, most: int) -> str:
    """Cut a long name to so many characters; the end stays, where the optimizer's name stands.

    Examples:
        >>> shortened("runs/2026/sgdp", 8)
        '…26/sgdp'
    """
    return name if len(name) <= most else f"…{name[1 - most :]}"

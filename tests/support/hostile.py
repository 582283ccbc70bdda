"""Outcomes of reading what a disk or a stranger hands over: the right value, or one line that names the file."""

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tangential.experiments.data.faults import DataError


class Refused(str):
    """The one line of an error."""


def outcome(read: Callable[[], Any], *, name: str = "") -> Any:
    """What reading gives, or the line of its error, which has to be one and to have the name in it."""
    try:
        return read()
    except DataError as error:
        line = str(error)
        assert "\n" not in line and name in line, line
        return Refused(line)


def warned(read: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What reading gives, and its warnings."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        value = read()
    return value, [str(each.message) for each in caught]


def damaged(whole: bytes, *, count: int = 60, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Versions of a file: empty, cut, and with one bit flipped."""
    draw = random.Random(seed)
    yield "empty", b""
    for place in sorted({1, len(whole) // 2, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(count))}):
        yield f"cut at {place}", whole[:place]
    for place in (draw.randrange(len(whole)) for _ in range(count)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        yield f"flipped at {place}", bytes(flipped)

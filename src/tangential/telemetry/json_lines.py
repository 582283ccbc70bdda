"""Reader of JSON-lines files: `telemetry.jsonl` and `metrics.jsonl` of a run. Plain Python, no torch.

A process that was killed may leave half a line at the end of a file that is only appended to. It is skipped: a line
counts once its newline is there. Everything before it was written whole, so anything else that is wrong is damage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

LONGEST = 1 << 26
"""Bytes of a line: 64 MiB, some 100,000 weights in one record."""


def json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any, int]]:
    r"""Every whole line of a JSON-lines file, read one at a time.

    Args:
        path: The file; without it there are no lines.

    Yields:
        The number of the line, from 1, its value, and the offset in bytes at which it ends.

    Raises:
        ValueError: A line is no JSON, nested too deeply, or longer than `LONGEST`: `line 2 is not JSON`. The caller
            adds the name of the file and what to do.
        OSError: The file cannot be read, which is no damage.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> _ = path.write_bytes(b'{"epoch": 1}\n{"epo')
        >>> list(json_lines(path))
        [(1, {'epoch': 1}, 13)]
    """
    path = Path(path)
    if not path.exists():
        return
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is not a regular file")
    end = number = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) == LONGEST:
                    raise ValueError(f"line {number} is longer than {LONGEST >> 20} MiB")
                return
            end += len(line)
            yield number, _value(number, line), end


def _value(number: int, line: bytes) -> Any:
    try:
        return json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is not JSON") from error


def _refused(constant: str) -> NoReturn:
    """Python reads NaN and Infinity, which JSON does not have and nothing here writes."""
    raise ValueError(constant)

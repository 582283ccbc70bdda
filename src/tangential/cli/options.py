"""Options that several commands have."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

THREADS = 1
"""The nets here are too small to share; and with one thread the bits do not depend on the number of cores."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that everything works.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each process.")]


def command_line() -> str:
    """The present command as it would be typed again."""
    return shlex.join(["tangential", *sys.argv[1:]])

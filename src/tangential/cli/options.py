"""Options that several commands have."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

THREADS = 1
"""The nets here are too small to share; and with one thread the bits do not depend on the number of cores."""

RECIPES = Path(__file__).with_name("recipes.json")
"""The listing of the recipes; see `tangential.cli.recipes`."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that everything works.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each process.")]


def path(text: str) -> Path:
    """A path as it was typed, with `~` for the home folder, which a shell leaves as it is in `--out=~/runs`.

    Raises:
        typer.BadParameter: The text is empty, as that of a variable that is not set.
    """
    if not text:
        raise typer.BadParameter("an empty path; give a file or a folder")
    return Path(text).expanduser()


def recipe_names(incomplete: str) -> list[str]:
    """The recipes whose names begin so, for completion in a shell."""
    return [name for name in json.loads(RECIPES.read_text("utf-8")) if name.startswith(incomplete)]


def command_line() -> str:
    """The present command as it would be typed again."""
    return shlex.join(["tangential", *sys.argv[1:]])

"""Options that several commands have."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from tangential.experiments.engines import Engine as EngineName

THREADS = 1
"""The nets here are too small to share; and with one thread the bits do not depend on the number of cores."""

RECIPES = Path(__file__).with_name("recipes.json")
"""The listing of the recipes; see `tangential.cli.recipes`."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that everything works.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each process.")]
Engine = Annotated[EngineName, typer.Option(help="Where workers run: this machine, a Ray cluster, SLURM.")]
PerWorker = Annotated[
    str, typer.Option(metavar="NEEDS", help="What each worker needs: cpus=4,gpus=1,gb=16,minutes=240.")
]
WorkerOf = Annotated[
    int | None, typer.Option("--worker", hidden=True, help="Train, beside the process that started this one.")
]


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
    """The present command as it would be typed again; that of a worker, as the one that started it."""
    words = list(sys.argv[1:])
    if "--worker" in words[1:2]:  # and its number
        del words[1:3]
    return shlex.join(["tangential", *words])

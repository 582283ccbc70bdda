"""Arguments of the command `neighbours`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path


def neighbours(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/omniglot-proxy-anchor/adamp-seed0")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many queries to show.")] = 12,
    nearest: Annotated[int, typer.Option(min=1, help="How many neighbours of each.")] = 8,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only queries whose nearest neighbour is wrong.")] = False,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="The page. [default: neighbours.html in the run folder]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a page of query images and their nearest neighbours in a trained embedding.

    Examples:
      tangential neighbours runs/omniglot-triplet/adamp-seed0 --count 20 --wrong
    """
    from tangential.cli import neighbours as command

    command.neighbours(run=run, count=count, nearest=nearest, wrong=wrong, out=out)

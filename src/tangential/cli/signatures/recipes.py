"""Arguments of the command `recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from tangential.cli.options import Debug


def recipes(
    task: Annotated[str | None, typer.Option(metavar="TEXT", help="Only tasks whose title has this in it.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Only those of a table of the paper.")] = False,
    ready: Annotated[bool, typer.Option("--ready", help="Only those whose data are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    debug: Debug = False,
) -> None:
    """List the recipes by task, with the paper's table and whether the data are there.

    Examples:
      tangential recipes
      tangential recipes --task audio --paper
      tangential recipes --ready --json
    """
    from tangential.cli import recipes as command

    command.recipes(task=task, paper=paper, ready=ready, as_json=as_json)

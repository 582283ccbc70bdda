"""Arguments of the command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path


def report(
    folders: Annotated[
        list[Path] | None, typer.Argument(parser=path, metavar="DIR...", help="Run folders, or folders of run folders.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the page and the plots. [default: the first DIR]")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Follow unfinished runs in a browser on this machine; write nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the server; 0 for any that is free.")] = 8060,
    tensorboard: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path, metavar="DIR", help="TensorBoard event files of any program instead; may be repeated."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the table of some runs; write their page and plots, or serve the page.

    Examples:
      tangential report runs/digits
      tangential report runs/digits runs/short --out runs/both
      tangential report runs/digits --serve
      tangential report --tensorboard logs
    """
    from tangential.cli import report as command

    command.report(folders=folders, out=out, serve=serve, port=port, tensorboard=tensorboard)

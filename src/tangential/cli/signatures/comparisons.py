"""Arguments of the command `comparisons`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path


def comparisons(
    folders: Annotated[
        list[Path], typer.Argument(parser=path, metavar="DIR...", help="Folders of finished `tangential compare`.")
    ],
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the page. [default: the first DIR's parent]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Judge several comparisons as one page.

    A verdict each, corrected for all of them, and who is ahead how often.

    Examples:
      tangential comparisons runs/digits-compare runs/mnist-small-compare
    """
    from tangential.cli import comparisons as command

    command.comparisons(folders=folders, out=out)

"""Arguments of the command `toy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tangential.cli.options import Debug, path


def toy(
    which: Annotated[Literal["2d", "3d"], typer.Argument(help="The plane or the sphere.")],
    momentum: Annotated[float, typer.Option(help="Momentum of the 2-D toy.")] = 0.9,
    optimizer: Annotated[
        list[str] | None, typer.Option(help="Another optimizer, as in 'torch.optim.AdamW(lr=0.01)'; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(parser=path, help="Folder of the plots and the animation.")] = Path("runs/toys"),
    debug: Debug = False,
) -> None:
    """Run the paper's optimizers, and any other, on a toy problem: a table, plots, an animation.

    Examples:
      tangential toy 2d
      tangential toy 3d --optimizer 'torch.optim.AdamW(lr=0.01)'
    """
    from tangential.cli import toy as command

    command.toy(which=which, momentum=momentum, optimizer=optimizer, out=out)

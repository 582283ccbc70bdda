"""Arguments of the command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path
from tangential.experiments.viewers.model_forms import FORMS


def inspect(
    model: Annotated[str, typer.Argument(metavar="SPEC", help=FORMS)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Arguments of the model: num_classes=10")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Shape of the example batch: 8x3x224x224, or 2x24 tokens.")] = None,
    against_cosine: Annotated[
        int,
        typer.Option(metavar="STEPS", min=0, help="Train for STEPS steps and show where the cosine test disagrees."),
    ] = 0,
    out: Annotated[Path, typer.Option(parser=path, help="Folder of the JSON file and the HTML page.")] = Path(
        "inspected"
    ),
    debug: Debug = False,
) -> None:
    """Find the scale-invariant weights of a model: print a table, write JSON and a page.

    Examples:
      tangential inspect torchvision:resnet18 --batch 4x3x64x64
      tangential inspect nets.py:build width=16 --against-cosine 50
    """
    from tangential.cli import inspect as command

    command.inspect(model=model, settings=settings, batch=batch, against_cosine=against_cosine, out=out)

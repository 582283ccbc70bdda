"""Arguments of the command `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path


def predict(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/bccd-centernet/adamp-seed0")
    ],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path, metavar="[IMAGE]...", help="Image files or folders of them; else images of the run's test set."
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of a box that is drawn.")] = 0.3,
    count: Annotated[int, typer.Option(min=1, help="How many images of the test set.")] = 8,
    out: Annotated[Path, typer.Option(parser=path, help="Folder of the drawn images and boxes.json.")] = Path(
        "predicted"
    ),
    debug: Debug = False,
) -> None:
    """Draw the boxes that a trained detector predicts, on any images or on those of its test set.

    Examples:
      tangential predict runs/bccd-centernet/adamp-seed0
      tangential predict runs/bccd-ssd/adamp-seed0 photos/ --threshold 0.5
    """
    from tangential.cli import predict as command

    command.predict(run=run, pictures=pictures, threshold=threshold, count=count, out=out)

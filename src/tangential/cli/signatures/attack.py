"""Arguments of the command `attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tangential.cli.options import THREADS, Debug, Threads, path


def attack(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/cifar10-adversarial-l2/adamp-seed0")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many images of the test set.")] = 200,
    version: Annotated[
        Literal["standard", "plus", "rand"],
        typer.Option(help="Version of AutoAttack; rand is for models with randomness."),
    ] = "standard",
    threads: Threads = THREADS,
    debug: Debug = False,
) -> None:
    """Measure the accuracy of an adversarially trained model under AutoAttack, in the norm and radius of its run.

    Examples:
      tangential attack runs/cifar10-adversarial-small/adamp-seed0 --count 500
    """
    from tangential.cli import attack as command

    command.attack(run=run, count=count, version=version, threads=threads)

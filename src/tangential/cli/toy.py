"""The command `toy`: the paper's two toy problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from tangential.cli.options import THREADS, Debug, path
from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.files import make_folder
from tangential.paper.toys import CIRCLE, SPHERE, animation, optimizers, run_all, table


def toy(
    which: Annotated[Literal["2d", "3d"], typer.Argument(help="The plane or the sphere.")],
    momentum: Annotated[float, typer.Option(help="Momentum of the 2-D toy.")] = 0.9,
    optimizer: Annotated[
        list[str] | None, typer.Option(help="Another optimizer, as in 'torch.optim.AdamW(lr=0.01)'; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(parser=path, help="Folder of the plots and the animation.")] = Path("runs/toys"),
    debug: Debug = False,
) -> None:
    """Run the paper's optimizers, and any other, on a toy problem: a table, plots, an animation."""
    torch.set_num_threads(THREADS)
    flat = which == "2d"
    compared = optimizers.on_circle(momentum) if flat else optimizers.on_sphere()
    compared |= {text: optimizers.named(text) for text in optimizer or []}
    make_folder(out)
    trajectories = run_all(CIRCLE if flat else SPHERE, compared)
    terminal = console()
    for line in table.circle_lines(trajectories, beta=momentum) if flat else table.sphere_lines(trajectories):
        print_line(terminal, line)
    for written in animation.save_all(trajectories, out):
        print_line(terminal, written)

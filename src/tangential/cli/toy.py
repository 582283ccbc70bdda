"""The command `toy`: the paper's two toy problems."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tangential.cli.options import THREADS
from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.files import make_folder
from tangential.paper.toys import CIRCLE, SPHERE, animation, optimizers, run_all, table


def toy(*, which: Literal["2d", "3d"], momentum: float, optimizer: list[str] | None, out: Path) -> None:
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

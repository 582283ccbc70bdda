"""The command `neighbours`: what a trained embedding retrieves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from tangential.cli.options import THREADS, Debug, path
from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.files import make_folder
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.retrieval import Retrieval
from tangential.experiments.viewers.neighbours import answers
from tangential.experiments.viewers.neighbours_page import save
from tangential.experiments.viewers.trained_model import trained

PAGE = "neighbours.html"


def neighbours(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/omniglot-proxy-anchor/adamp-seed0")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many queries to show.")] = 12,
    nearest: Annotated[int, typer.Option(min=1, help="How many neighbours of each.")] = 8,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only queries whose nearest neighbour is wrong.")] = False,
    out: Annotated[
        Path | None, typer.Option(parser=path, help=f"The page; {PAGE} in the run folder if not given.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a page of query images and their nearest neighbours in a trained embedding."""
    torch.set_num_threads(THREADS)
    task, model = trained(RunFolder(run), Retrieval, "retrieves no images")
    found = answers(task, model, count=count, neighbours=nearest, only_wrong=wrong)
    path = out or run / PAGE
    make_folder(path.parent)
    save(path, f"{run.parent.name} · {run.name}", task, found, only_wrong=wrong)
    terminal = console()
    scores = ", ".join(f"{name} {value:.4f}" for name, value in found.scores.items())
    print_line(terminal, f"{found.queries:,} queries: {scores}")
    print_line(terminal, path)

"""The command `neighbours`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.text import Text

from tangential.cli.inquiries import THREADS, Debug
from tangential.experiments.runs.folder import RunFolder, make_folder

PAGE = "neighbours.html"


def neighbours(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder: runs/omniglot-proxy-anchor/adamp-seed0")],
    count: Annotated[int, typer.Option(min=1, help="How many queries to show.")] = 12,
    nearest: Annotated[int, typer.Option(min=1, help="How many neighbours of each.")] = 8,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only queries whose nearest neighbour is wrong.")] = False,
    out: Annotated[Path | None, typer.Option(help=f"The page; {PAGE} in the run folder if not given.")] = None,
    debug: Debug = False,
) -> None:
    """Show what a trained embedding finds: a page of queries and their nearest neighbours."""
    # the recipes take seconds to import that other commands need not wait
    from tangential.experiments.tasks.retrieval import Retrieval
    from tangential.experiments.viewers.neighbours import answers
    from tangential.experiments.viewers.neighbours_page import save
    from tangential.experiments.viewers.trained_model import trained

    torch.set_num_threads(THREADS)
    task, model = trained(RunFolder(run), Retrieval, "retrieves no images")
    found = answers(task, model, count=count, neighbours=nearest, only_wrong=wrong)
    path = out or run / PAGE
    make_folder(path.parent)
    save(path, f"{run.parent.name} · {run.name}", task, found, only_wrong=wrong)
    console = Console()
    scores = ", ".join(f"{name} {value:.4f}" for name, value in found.scores.items())
    console.print(f"{found.queries:,} queries: {scores}", highlight=False, soft_wrap=True)
    console.print(Text(str(path), overflow="fold"), soft_wrap=True)

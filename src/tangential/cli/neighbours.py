"""The command `neighbours`: what a trained embedding retrieves."""

from __future__ import annotations

from pathlib import Path

import torch

from tangential.cli.options import THREADS
from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.files import make_folder
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.retrieval import Retrieval
from tangential.experiments.viewers.neighbours import answers
from tangential.experiments.viewers.neighbours_page import save
from tangential.experiments.viewers.trained_model import trained

PAGE = "neighbours.html"


def neighbours(*, run: Path, count: int, nearest: int, wrong: bool, out: Path | None) -> None:
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

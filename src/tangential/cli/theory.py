"""The command `theory`: the paper's statements, evaluated."""

from __future__ import annotations

import torch
import typer

from tangential.cli.options import THREADS
from tangential.cli.terminal import console, print_line
from tangential.paper.theory import Check, checks
from tangential.paper.theory.table import lines, summary


def theory() -> None:
    """Evaluate every statement of the theory on real losses; exit with 1 if one fails."""
    torch.set_num_threads(THREADS)
    terminal = console()
    found: list[Check] = []
    for check in checks():
        for line in lines(check, after=found[-1] if found else None):
            print_line(terminal, line)
        found.append(check)
    print_line(terminal, summary(found))
    if not all(check.holds for check in found):
        raise typer.Exit(1)

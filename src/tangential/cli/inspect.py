"""The command `inspect`: which weights of a model are scale-invariant."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from tangential.cli.terminal import console, print_line, table
from tangential.experiments.runs.files import make_folder, replace_text
from tangential.experiments.viewers.cosine_test import CosineRecord, cosine_records
from tangential.experiments.viewers.inspection_page import save
from tangential.experiments.viewers.model_spec import load, parse_settings, parse_shape
from tangential.invariances import find_invariances


def inspect(*, model: str, settings: list[str] | None, batch: str | None, against_cosine: int, out: Path) -> None:
    """Find the scale-invariant weights of a model: print a table, write JSON and a page."""
    shape = parse_shape(batch) if batch else None
    torch.manual_seed(0)
    subject = load(model, parse_settings(settings or []), shape)
    make_folder(out)
    terminal = console()
    with terminal.status("Looking for scale-invariant weights"):
        found = find_invariances(subject.model, *subject.args, **subject.kwargs)
    terminal.print(found)
    records = cosine_records(subject, found, against_cosine) if against_cosine else []
    if records:
        _print_cosine_test(terminal, records, against_cosine)
    answer, page = out / "invariances.json", out / "invariances.html"
    replace_text(answer, found.to_json())
    save(page, model, found, records, against_cosine)
    for written in (answer, page):
        print_line(terminal, written)


def _print_cosine_test(terminal: Console, records: list[CosineRecord], steps: int) -> None:
    wrong = [each for each in records if each.wrong]
    agreed = len(records) - len(wrong)
    terminal.print(f"Over {steps} steps the paper's cosine test agrees on {agreed} of {len(records)} weights.")
    if wrong:
        headings = ("weight", "fact", "channel", "layer", "neither", "flips")
        rows = [(e.name, e.fact, *map(str, (e.channel, e.layer, e.neither, e.flips))) for e in wrong]
        terminal.print(table(headings, rows, left=(0, 1)))

"""The command `recipes`: read from a file, because building the recipes loads torch.

The file is generated; after a change of a recipe's name, description or data write it anew, a test compares:

    python -m tangential.cli.recipes > src/tangential/cli/recipes.json
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tangential.cli.options import RECIPES
from tangential.cli.terminal import console, print_line
from tangential.experiments.settings.suggestion import did_you_mean

DATA = "TANGENTIAL_DATA"
_NARROW = 70
_TITLES = {
    "Classification": "Image classification",
    "Adversarial": "Adversarial robustness",
    "Bias": "Bias robustness",
    "Detection": "Object detection",
    "Language": "Language modelling",
    "Tagging": "Audio",
    "Keyword": "Audio",
    "Retrieval": "Image retrieval",
}
"""Of the classes of tasks."""


def recipes(*, task: str | None, paper: bool, ready: bool, as_json: bool) -> None:
    """List the recipes by task, with the paper's table and whether the data are there."""
    chosen = {name: entry for name, entry in _read().items() if entry["ready"] or not ready}
    if task is not None:
        titles = sorted({entry["task"] for entry in chosen.values()})
        if not any(task.lower() in title.lower() for title in titles):
            raise ValueError(f"--task {task}: must be part of one of {', '.join(titles)}{did_you_mean(task, titles)}")
        chosen = {name: entry for name, entry in chosen.items() if task.lower() in entry["task"].lower()}
    if paper:
        chosen = {name: entry for name, entry in chosen.items() if entry["paper"]}
    terminal = console()
    if as_json:
        terminal.print(json.dumps(chosen, ensure_ascii=False, indent=1), soft_wrap=True)
        return
    for title in dict.fromkeys(entry["task"] for entry in chosen.values()):
        terminal.print(title, style="bold")
        _print_group(terminal, {name: entry for name, entry in chosen.items() if entry["task"] == title})


def _read() -> dict[str, dict[str, Any]]:
    """The listing, and in each entry whether the data are there."""
    listing: dict[str, dict[str, Any]] = json.loads(RECIPES.read_text("utf-8"))
    folder = os.environ.get(DATA, "").strip()
    for entry in listing.values():
        names = entry["data"]
        found = bool(folder) and any((Path(folder).expanduser() / name).exists() for name in names)
        entry["ready"] = not names or found
    return listing


def _print_group(terminal: Console, entries: dict[str, dict[str, Any]]) -> None:
    rows = [(name, entry["about"], _remark(entry)) for name, entry in entries.items()]
    if not terminal.is_terminal:  # a line for each, for grep
        width = max(len(name) for name, _, _ in rows)
        for name, about, remark in rows:
            print_line(terminal, f"  {name:<{width}}  {about} ({remark})")
    elif terminal.width < _NARROW:
        for name, about, remark in rows:
            terminal.print(f"  {name}")
            terminal.print(Padding(Text(f"{about} ({remark})", style="dim"), (0, 0, 0, 4)))
    else:
        made = Table.grid(padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True)
        for name, about, remark in rows:
            made.add_row(f"  {name}", Text.assemble(about, (f" ({remark})", "dim")))
        terminal.print(made)


def _remark(entry: dict[str, Any]) -> str:
    data = "ready" if entry["ready"] else f"data missing, {entry['size']}"
    return f"{entry['paper']}; {data}" if entry["paper"] and "table" not in entry["about"] else data


def generated() -> str:
    """The contents of the file, from the recipes themselves."""
    from tangential.experiments import recipes as known

    with tempfile.TemporaryDirectory() as nothing:
        before = os.environ.get(DATA)
        os.environ[DATA] = nothing
        try:
            listing = {name: dict(_entry(recipe)) for name, recipe in known.RECIPES.items()}
        finally:
            os.environ.pop(DATA)
            if before is not None:
                os.environ[DATA] = before
    return json.dumps(listing, indent=1, ensure_ascii=False) + "\n"


def _entry(recipe: Any) -> Iterator[tuple[str, Any]]:
    """What is listed of a recipe; what its data are is known from what it misses in an empty folder."""
    from tangential.experiments.data.locations import MissingData

    names, size = (), ""
    try:
        recipe.task.batches("train", batch_size=recipe.batch_size)
    except MissingData as missing:
        names, size = missing.names, missing.size
    tables = {number.source.split(", ")[1] for number in recipe.paper.values()}
    yield "about", recipe.about
    yield "task", _TITLES[type(recipe.task).__name__]
    yield "paper", f"paper's {min(tables)}" if tables else None
    yield "data", names
    yield "size", size


if __name__ == "__main__":
    console(soft_wrap=True).print(generated(), end="")

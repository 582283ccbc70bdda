"""The command `comparisons`: what several finished comparisons show together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path
from tangential.cli.terminal import console, print_line
from tangential.experiments.comparison import several_page
from tangential.experiments.comparison.several import read_records, several
from tangential.experiments.runs.files import make_folder


def comparisons(
    folders: Annotated[
        list[Path], typer.Argument(parser=path, metavar="DIR...", help="Folders of finished `tangential compare`.")
    ],
    out: Annotated[Path | None, typer.Option(parser=path, help="Folder of the page; the first DIR's parent.")] = None,
    debug: Debug = False,
) -> None:
    """Judge several comparisons as one page.

    A verdict each, corrected for all of them, and who is ahead how often.
    """
    terminal = console()
    record = several(read_records(folders))
    out = out or folders[0].parent
    make_folder(out)
    for line in record["lines"]:
        print_line(terminal, f"{line['name']}: {line['sentence']}.")
    for common in (each for each in record["common"] if each["tasks"] > 1):
        print_line(terminal, f"{several_page.summary(common)}.", style="bold")
    for note in record["notes"]:
        print_line(terminal, note)
    for written in several_page.save(record, out):
        print_line(terminal, written)

"""The command `comparisons`: what several finished comparisons show together."""

from __future__ import annotations

from pathlib import Path

from tangential.cli.terminal import console, print_line
from tangential.experiments.comparison import several_page
from tangential.experiments.comparison.several import read_records, several
from tangential.experiments.runs.files import make_folder


def comparisons(*, folders: list[Path], out: Path | None) -> None:
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

"""The command `report`: the table of some runs, their page and pictures, and the page of runs that go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tangential.cli.inquiries import Debug
from tangential.experiments.report import page, tables
from tangential.experiments.report.comparison import Comparison, gather
from tangential.experiments.report.event_files import gather_events
from tangential.experiments.report.server import PORT, Followed, Server
from tangential.experiments.runs.folder import find, make_folder

GAP = 2
"""Columns of the terminal between those of the table."""


def report(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="Run folders, or folders of run folders.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; the first DIR if not given.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Follow runs that go on, in a browser on this machine.")
    ] = False,
    port: Annotated[int, typer.Option(help="Where to serve; 0 for any port that is free.")] = PORT,
    tensorboard: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Event files of any program instead; may be repeated.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the table of some runs and write the page and the plots."""
    if bool(folders) == bool(tensorboard):
        raise ValueError("name run folders, or --tensorboard and a folder of event files, one of the two")
    if serve and (tensorboard or out):
        raise ValueError("--serve follows run folders and writes nothing; leave --tensorboard and --out away")
    if serve:
        follow(Console(), folders or [], port)
    elif tensorboard:
        show(Console(), gather_events(tensorboard), out or tensorboard[0])
    else:
        show(Console(), gather(find(folders or [])), out or (folders or [])[0])


def show(console: Console, comparison: Comparison, out: Path) -> None:
    """Print a comparison's table and write its page and plots into a folder.

    Raises:
        ValueError: The folder cannot be written.
    """
    make_folder(out)
    table = tables.table(comparison)
    for number, part in enumerate(_parts(table, console.width)):
        console.print(*([""] if number else []), part, sep="\n")
    console.print(table.caption, style="dim", highlight=False, markup=False)
    for note in comparison.notes:
        console.print(Text(note))
    if comparison.unfinished:
        console.print(f"{comparison.unfinished} unfinished runs left out", highlight=False)
    for path in page.save(comparison, out):
        console.print(Text(str(path), overflow="fold"), soft_wrap=True)


def follow(console: Console, folders: list[Path], port: int) -> None:
    """Serve the page of some folders until Ctrl-C.

    Raises:
        ValueError: A folder does not exist, or the port cannot be had.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; name the --out of a `tangential train`")
    with Server(Followed(tuple(folders)), port) as server:
        console.print(f"{server.url} follows these runs; Ctrl-C ends it", highlight=False, soft_wrap=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _parts(table: tables.Table, width: int) -> Iterator[Table]:
    """The table, cut between columns where it is too wide; each part begins with the first column."""
    first, *others = zip(table.headings, *([str(cell) for cell in row] for row in table.rows), strict=True)
    taken = [first]
    for column in others:
        if len(taken) > 1 and sum(map(_width, [*taken, column])) + GAP * len(taken) > width:
            yield _part(taken)
            taken = [first]
        taken.append(column)
    yield _part(taken)


def _width(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.splitlines() or [""])


def _part(columns: Sequence[Sequence[str]]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for number, (heading, *_) in enumerate(columns):
        shown.add_column(Text(heading), justify="right" if number else "left", overflow="fold")
    for row in zip(*(cells for _, *cells in columns), strict=True):
        shown.add_row(*map(Text, row))
    return shown

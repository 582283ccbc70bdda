"""The command `report`: the table, page and plots of finished runs, or a server that follows unfinished ones."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tangential.cli.terminal import console, print_line, print_table
from tangential.experiments.report import page, tables
from tangential.experiments.report.comparison import Comparison, gather_folders
from tangential.experiments.report.event_files import gather_events
from tangential.experiments.report.server import Followed, Server
from tangential.experiments.report.text import escaped
from tangential.experiments.runs.files import make_folder


def report(
    *, folders: list[Path] | None, out: Path | None, serve: bool, port: int, tensorboard: list[Path] | None
) -> None:
    """Print the table of some runs; write their page and plots, or serve the page."""
    if bool(folders) == bool(tensorboard):
        raise ValueError("name run folders, or --tensorboard and a folder of event files, one of the two")
    if serve and (tensorboard or out):
        raise ValueError("--serve follows run folders and writes nothing; leave --tensorboard and --out away")
    if serve:
        follow(console(), folders or [], port)
    elif tensorboard:
        show(console(), gather_events(tensorboard), out or tensorboard[0])
    else:
        show(console(), gather_folders(folders or []), out or (folders or [])[0])


def show(terminal: Console, comparison: Comparison, out: Path) -> None:
    """Print a comparison's table and write its page and plots into a folder.

    Raises:
        ValueError: The folder cannot be written.
    """
    make_folder(out)
    shown = tables.table(comparison)
    print_table(terminal, shown.headings, [[str(cell) for cell in row] for row in shown.rows])
    terminal.print(escaped(shown.caption), style="dim", highlight=False, markup=False)
    for note in comparison.notes:
        terminal.print(escaped(note), highlight=False, markup=False)
    if comparison.unfinished:
        terminal.print(f"{comparison.unfinished} unfinished runs left out", highlight=False)
    for written in page.save(comparison, out):
        print_line(terminal, written)


def follow(terminal: Console, folders: list[Path], port: int) -> None:
    """Serve the page of some folders until Ctrl-C.

    Raises:
        ValueError: A folder does not exist, or the port cannot be had.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; name the --out of a `tangential train`")
    with Server(Followed(tuple(folders)), port) as server:
        print_line(terminal, f"{server.url} follows these runs; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return

"""Standard output and standard error of the commands: lines, tables, warnings; whatever is printed is escaped first.

Names of optimizers, weights and files come from run folders, models and archives that anybody may have made. Here is
the one place where they meet the terminal, so `escaped` is applied here: to each cell and line before rich measures
it, which keeps columns straight, and once more to all that rich has rendered, whoever made it.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tangential.experiments.report.text import escaped

GAP = 2
"""Columns of the terminal between those of a table."""


def console(*, quiet: bool = False, **options: Any) -> Console:
    """Open standard output. Text is text: no markup, no highlighting, no control characters.

    Args:
        quiet: Whether to print nothing, as all processes but the first of a distributed run do.
        **options: Passed to rich, for tests.
    """
    return _EscapingConsole(quiet=quiet, markup=False, highlight=False, emoji=False, **options)


def print_line(out: Console, text: str | Path, *, style: str = "") -> None:
    """Print one line, however long it is: a path must stay in one piece to be copied."""
    out.print(Text(escaped(str(text)), style=style, overflow="fold"), soft_wrap=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int] = (0,)) -> Table:
    """Make a table of plain text.

    Args:
        headings: Of the columns.
        rows: A cell per column. The first is a name; the others may have several lines.
        left: Numbers of the columns that are aligned to the left; the others, of numbers, to the right.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for number, heading in enumerate(headings):
        made.add_column(Text(escaped(heading)), justify="left" if number in left else "right", overflow="fold")
    for name, *cells in rows:
        made.add_row(Text(escaped(name)), *(Text(_escaped_lines(cell)) for cell in cells))
    return made


def bullets(sentences: Iterable[str]) -> Table:
    """Sentences, each behind a dash, wrapped beside it."""
    made = Table.grid(padding=(0, 1))
    for sentence in sentences:
        made.add_row("-", Text(escaped(sentence), overflow="fold"))
    return made


def print_table(
    out: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> None:
    """Print a table, cut between columns where it is too wide; each part begins with the first column.

    Args:
        out: Where.
        headings: Of the columns.
        rows: A cell per column.
        left: Headings of columns of text, beside the first.
    """
    first, *others = zip(headings, *rows, strict=True)
    parts = [[first]]
    for column in others:
        if len(parts[-1]) > 1 and sum(map(_width, [*parts[-1], column])) + GAP * len(parts[-1]) > out.width:
            parts.append([first])
        parts[-1].append(column)
    for number, columns in enumerate(parts):
        names = [heading for heading, *_ in columns]
        places = [0, *(place for place, name in enumerate(names) if name in left)]
        made = table(names, zip(*(cells for _, *cells in columns), strict=True), left=places)
        out.print(*([""] if number else []), made, sep="\n")


def _width(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.splitlines() or [""])


def print_error(text: str, *, error: BaseException | None = None) -> None:
    """Write one line to standard error, below the traceback of an error if one is given."""
    if error is not None:
        sys.stderr.write(_escaped_lines("".join(traceback.format_exception(error))))
    sys.stderr.write(escaped(" ".join(text.split())) + "\n")


@contextmanager
def notices(program: str) -> Iterator[None]:
    """Print warnings and the log of this package as one line each, escaped, while the block runs.

    Args:
        program: What each line begins with.
    """
    handler = _Lines(program)
    log = logging.getLogger("tangential")
    before = warnings.showwarning, log.propagate
    log.addHandler(handler)
    log.propagate = False
    warnings.showwarning = lambda message, *_, **__: print_error(f"{program}: {message}")
    try:
        yield
    finally:
        warnings.showwarning, log.propagate = before
        log.removeHandler(handler)


class _Lines(logging.Handler):
    def __init__(self, program: str) -> None:
        super().__init__(logging.WARNING)
        self._program = program

    def emit(self, record: logging.LogRecord) -> None:
        print_error(f"{self._program}: {record.getMessage()}")


class _EscapingConsole(Console):
    """Escapes the text of all that it prints, tables and progress bars too; its own control codes stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _escaped_lines(text), style, control)


def _escaped_lines(text: str) -> str:
    return "\n".join(map(escaped, text.split("\n")))

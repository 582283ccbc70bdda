"""The answer as a table: one line for many similar weights, so that a network fits on a screen.

Weights of two dimensions or more come first. Vectors without blocks, which are norm parameters and biases, are folded
into a line per answer.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tangential.invariances.parameter_names import collapsed
from tangential.invariances.verdicts import Verdict

if TYPE_CHECKING:
    from rich.table import Table

_HEADS = ("parameters", "", "blocks", "shape", "residual", "why")
_EXPENDABLE = (4, 3)
"""Columns that a narrow terminal goes without, first one first."""
_NARROWEST = 60
_WHY = 16
_GAP = 2


@dataclass(frozen=True)
class Row:
    """One line: parameters with one answer whose names differ in numbers only."""

    names: str
    count: int
    shape: str
    label: str
    residual: str
    why: str

    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        return (self.names, f"x{self.count}" if self.count > 1 else "", self.label, self.shape, self.residual, self.why)


def rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """The lines of the table: weights in the model's order, then vectors without blocks."""
    groups: dict[tuple[bool, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        folded = len(verdict.shape) < 2 and verdict.blocks is None and not verdict.chosen
        groups.setdefault((folded, verdict.label, _why(verdict)), []).append(verdict)
    lines = [
        (folded, pattern, [members[index] for index in inside])
        for (folded, *_), members in groups.items()
        for pattern, inside in (_folded(members) if folded else collapsed([member.name for member in members]))
    ]
    order = {verdict.name: place for place, verdict in enumerate(verdicts)}
    lines.sort(key=lambda line: (line[0], order[line[2][0].name]))
    return [_row(pattern, members) for _, pattern, members in lines]


def _folded(members: Sequence[Verdict]) -> list[tuple[str, list[int]]]:
    """All of them as one pattern: how the names end; one that stands for several names already stays."""
    patterns = collapsed([member.name for member in members])
    if len(patterns) == 1:
        return patterns
    ends = sorted({member.name.rpartition(".")[2] for member in members})
    return [(f"*.{ends[0]}" if len(ends) == 1 else f"*.{{{','.join(ends)}}}", [*range(len(members))])]


def _row(pattern: str, members: Sequence[Verdict]) -> Row:
    shapes = {"x".join(map(str, member.shape)) or "scalar" for member in members}
    residuals = [member.residual for member in members if member.residual is not None]
    return Row(
        names=pattern,
        count=len(members),
        shape=shapes.pop() if len(shapes) == 1 else f"{len(shapes)} shapes",
        label=members[0].label,
        residual=f"{max(residuals):.0e}" if residuals else "",
        why=_why(members[0]),
    )


def _why(verdict: Verdict) -> str:
    if verdict.chosen:
        return "set by you"
    if verdict.absorbers:
        calls = dict.fromkeys(f"{absorber.kind}.{absorber.op}" for absorber in verdict.absorbers)
        return ", ".join(calls)
    return _without_names(verdict)


def _without_names(verdict: Verdict) -> str:
    """Names of other parameters would put every weight on a line of its own."""
    if verdict.kind == "joint":
        return "invariant only jointly with its neighbour; not projected" + verdict.reason[verdict.reason.rfind(" (") :]
    return verdict.reason


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line: how many parameters, and how many of each kind."""
    kinds = Counter(verdict.kind for verdict in verdicts)
    return f"{len(verdicts)} parameters: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}"


def text(verdicts: Sequence[Verdict], notes: Sequence[str], width: int | None = None) -> str:
    """The table in plain characters, no wider than the terminal."""
    width = max(width or shutil.get_terminal_size().columns, _NARROWEST)
    columns = _fitting(list(zip(_HEADS, *(row.cells() for row in rows(verdicts)), strict=True)), width)
    padded = [[cell.ljust(_width(column)) for cell in column] for column in columns]
    lines = ((" " * _GAP).join(cells).rstrip() for cells in zip(*padded, strict=True))
    return "\n".join([summary(verdicts), *notes, *(_clipped(line, width) for line in lines)])


def _fitting(columns: list[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    """The columns that leave some room for the last one; names too long for that lose their middles."""
    for expendable in _EXPENDABLE:
        if _taken(columns) + _WHY > width:
            del columns[expendable]
    room = max(_width(columns[0]) - max(_taken(columns) - width, 0), len("parameters"))
    columns[0] = shortened(columns[0], room)
    return columns


def shortened(names: Sequence[str], room: int) -> tuple[str, ...]:
    """Names cut in the middle to so many characters, so that different names stay different.

    Args:
        names: All names of the column.
        room: The most characters; at least 8.

    Examples:
        >>> shortened(["encoder.layer.0.weight", "encoder.layer.1.weight", "head"], 13)
        ('en...0.weight', 'en...1.weight', 'head')
    """
    different, most = len(set(names)), room - len("...")
    for end in sorted(range(1, most), key=lambda end: abs(end - 0.6 * most)):
        cut = tuple(x if len(x) <= room else f"{x[: most - end]}...{x[-end:]}" for x in names)
        if len(set(cut)) == different:
            return cut
    return tuple(names)


def _taken(columns: Sequence[tuple[str, ...]]) -> int:
    return sum(_width(column) + _GAP for column in columns[:-1])


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))


def _clipped(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def html(verdicts: Sequence[Verdict], notes: Sequence[str]) -> str:
    """The table for a notebook."""
    heads = "".join(f"<th>{escape(head)}</th>" for head in _HEADS)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row.cells()) for row in rows(verdicts))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    above = "".join(f"<p>{escape(line)}</p>" for line in (summary(verdicts), *notes))
    return f"{above}<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def rich_table(verdicts: Sequence[Verdict], notes: Sequence[str], width: int) -> Table:
    """The table for a rich console of this width; needs the package `rich`."""
    from rich.table import Table

    table = Table(title=summary(verdicts), caption="\n".join(notes) or None, box=None, pad_edge=False)
    lines = rows(verdicts)
    heads, *cells = zip(*_fitting(list(zip(_HEADS, *(row.cells() for row in lines), strict=True)), width), strict=True)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row, own in zip(lines, cells, strict=True):
        table.add_row(*own, style="" if row.residual and row.label != "near" else "dim")
    return table

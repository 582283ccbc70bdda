"""The answer as a table: one line for many similar weights, so that a network fits on a screen."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    """The lines of the table, in the model's order."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.label, _why(verdict)), []).append(verdict)
    lines = [
        ([members[index] for index in inside], pattern)
        for members in groups.values()
        for pattern, inside in collapsed([member.name for member in members])
    ]
    order = {verdict.name: place for place, verdict in enumerate(verdicts)}
    lines.sort(key=lambda line: order[line[0][0].name])
    return [_row(pattern, members) for members, pattern in lines]


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
        return "only together with its neighbour" + verdict.reason[verdict.reason.rfind(" (") :]
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
    """The columns that leave some room for the last one; names too long for that lose their beginnings."""
    for expendable in _EXPENDABLE:
        if _taken(columns) + _WHY > width:
            del columns[expendable]
    room = max(_width(columns[0]) - max(_taken(columns) - width, 0), len("parameters"))
    columns[0] = tuple(name if len(name) <= room else "..." + name[3 - room :] for name in columns[0])
    return columns


def _taken(columns: Sequence[tuple[str, ...]]) -> int:
    return sum(_width(column) + _GAP for column in columns[:-1])


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))


def _clipped(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def rich_table(verdicts: Sequence[Verdict], notes: Sequence[str]) -> Table:
    """The table for a rich console; needs the package `rich`."""
    from rich.table import Table

    table = Table(*_HEADS, title=summary(verdicts), caption="\n".join(notes) or None, box=None, pad_edge=False)
    for row in rows(verdicts):
        table.add_row(*row.cells(), style="" if row.residual and row.label != "near" else "dim")
    return table

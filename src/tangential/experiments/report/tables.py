"""The results table of a comparison: scores over seeds, paired differences, norms and effective steps.

`rows` computes what there is to show, `table` writes it as text; the terminal and the page show the same cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import floor, isnan, log10
from statistics import mean
from typing import Any

import numpy as np

from tangential.experiments.report.comparison import Comparison, Group
from tangential.experiments.report.curves import Curve, curve
from tangential.experiments.report.paired import TOO_FEW, Difference, Verdict, verdicts
from tangential.experiments.report.run_files import Run
from tangential.experiments.report.spread import Spread
from tangential.experiments.report.values import is_number

SCORES = 5
"""Most columns for scores."""

_DIFFERENCE = (
    "Difference: to the baseline, seed by seed{unit}, mean ± standard deviation, "
    "and Student's 95 % interval of the mean with the number n of seeds{better}. "
)
_EXPLAINED = {
    "verdict": (
        "Verdict: better or worse if the interval leaves zero out and the exact sign-flip test has p of at most 0.05, "
        "adjusted for all differences here (Holm). "
    ),
    "weight norm": "Weight norm: of weights with more than one dimension, after the first → after the last {unit}. ",
    "effective step": (
        "Effective step: how far one step moves w/|w|, over these weights and the steps of the first → last {unit}. "
    ),
    "ms/step": "Ms/step: forward, backward and update, median over {unit}s, mean over seeds. ",
    "paper": "Paper: the paper's number; those marked so were not verified, or are of other data. ",
}


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and the marks behind it."""

    text: str = ""
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.text, *(f"({mark})" for mark in self.marks)]).strip()


@dataclass(frozen=True)
class Paper:
    """The paper's number beside ours.

    Args:
        value: The number, in the table's unit.
        source: Its place in the paper.
        verified: Whether it was seen in the paper itself.
        other_data: Whether it is of other data than ours.
    """

    value: float
    source: str = ""
    verified: bool = False
    other_data: bool = False


@dataclass(frozen=True)
class Row:
    """One optimizer's line: scores in the table's units, `(first, last)` norms and steps, milliseconds."""

    label: str
    seeds: int
    scores: Mapping[str, Spread]
    difference: Difference | None = None
    verdict: Verdict | None = None
    paper: Paper | None = None
    norm: tuple[float, float] | None = None
    step: tuple[float, float] | None = None
    ms_per_step: float | None = None


@dataclass(frozen=True)
class Table:
    """Headings, a tuple of cells per row, and what the columns mean."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    sources: tuple[str, ...] = field(default=())


def table(comparison: Comparison) -> Table:
    """The finished runs of a comparison as a table; a column that no row has is left out."""
    summary = rows(comparison)
    scores = [each for each in _scores(comparison) if any(each.key in row.scores for row in summary)]
    columns = {heading: cells for heading, cells in _columns(summary, scores) if any(cell.text for cell in cells)}
    columns = {comparison.noun: [Cell(row.label) for row in summary], **columns}
    return Table(
        headings=tuple(columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        caption=_caption(summary, scores, columns, comparison.unit),
        sources=tuple(f"{r.label}: {r.paper.source}" for r in summary if r.paper and r.paper.source),
    )


def rows(comparison: Comparison) -> list[Row]:
    """A row per group that has finished runs, in the comparison's order."""
    baselines = {projected.label: baseline for baseline, projected in comparison.pairs()}
    scores = _scores(comparison)
    made = [_row(group, baselines.get(group.label), scores) for group in comparison.groups if group.finished]
    compared = [row for row in made if row.difference is not None]
    higher = not scores or scores[0].higher_is_better
    found = verdicts([row.difference for row in compared if row.difference], higher_is_better=higher)
    judged = {row.label: verdict for row, verdict in zip(compared, found, strict=True)}
    return [replace(row, verdict=judged.get(row.label)) for row in made]


def _scores(comparison: Comparison) -> list[Curve]:
    """The scores that have columns."""
    return [curve(key, comparison.headlines) for key in comparison.scores[:SCORES]]


def _row(group: Group, baseline: Group | None, scores: Sequence[Curve]) -> Row:
    runs = list(group.finished.values())
    spreads = {each.key: _last(group, each) for each in scores}
    head = scores[0] if scores else None
    return Row(
        label=group.label,
        seeds=len(runs),
        scores={key: Spread.of(list(values.values())) for key, values in spreads.items() if values},
        difference=_difference(spreads[head.key], _last(baseline, head)) if baseline and head else None,
        paper=_paper(group),
        norm=_first_and_last(runs, "weight_norm"),
        step=_first_and_last(runs, "effective_step"),
        ms_per_step=_mean_of(runs, "ms_per_step"),
    )


def _last(group: Group, score: Curve) -> dict[int, float]:
    """Seed -> the last value of a score, in the unit it is shown in."""
    there = {seed: run.curves[score.key].y for seed, run in group.finished.items() if score.key in run.curves}
    return {seed: score.scale * float(y[-1]) for seed, y in there.items()}


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> Difference | None:
    """Differences of the seeds that both have."""
    values = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    return Difference.of(values) if values else None


def _paper(group: Group) -> Paper | None:
    """The paper's number for this optimizer, if the settings have one."""
    numbers: Any = group.settings.get("paper")
    found = numbers.get(group.settings.get("optimizer")) if isinstance(numbers, dict) else None
    if not isinstance(found, dict) or not is_number(found.get("value")):
        return None
    return Paper(
        value=float(found["value"]),
        source=str(found.get("source") or ""),
        verified=found.get("verified") is True,
        other_data=bool(found.get("other_data")),
    )


def _first_and_last(runs: Sequence[Run], key: str) -> tuple[float, float] | None:
    there = [run.curves[key].y for run in runs if key in run.curves]
    return (mean(float(y[0]) for y in there), mean(float(y[-1]) for y in there)) if there else None


def _mean_of(runs: Sequence[Run], key: str) -> float | None:
    there = [float(np.median(run.curves[key].y)) for run in runs if key in run.curves]
    return mean(there) if there else None


def _columns(summary: Sequence[Row], scores: Sequence[Curve]) -> list[tuple[str, list[Cell]]]:
    """Every column the table can have."""
    columns = [(each.axis.removeprefix("test "), [_score_cell(row, each) for row in summary]) for each in scores]
    differences = [_difference_cell(row, head) for head in scores[:1] for row in summary]
    return [
        *columns[:1],
        ("paper", [_paper_cell(row.paper) for row in summary]),
        ("difference", differences),
        ("verdict", [_verdict_cell(row.verdict) for row in summary]),
        *columns[1:],
        ("weight norm", [Cell(_arrow(row.norm, partial(_fixed, decimals=2))) for row in summary]),
        ("effective step", [Cell(_arrow(row.step, _scientific)) for row in summary]),
        ("ms/step", [Cell("" if row.ms_per_step is None else _fixed(row.ms_per_step, 1)) for row in summary]),
    ]


def _score_cell(row: Row, score: Curve) -> Cell:
    spread = row.scores.get(score.key)
    if spread is None:
        return Cell()
    return Cell(_number(spread.mean, score) + _deviation(spread, score))


def _difference_cell(row: Row, score: Curve) -> Cell:
    """Mean and deviation, and the interval under them if there is one, with as many decimals as the score."""
    difference = row.difference
    if difference is None:
        return Cell()
    decimals = 2 if score.in_percent else _decimals(row.scores[score.key].mean)
    mean, deviation, low, high = (
        _fixed(value, decimals, sign="+")
        for value in (difference.spread.mean, difference.spread.deviation, difference.low, difference.high)
    )
    spread = "" if isnan(difference.spread.deviation) else f" ± {deviation[1:]}"
    interval = "" if isnan(difference.low) else f"\n[{low}, {high}], n = {len(difference.values)}"
    return Cell(mean + spread + interval)


def _verdict_cell(verdict: Verdict | None) -> Cell:
    if verdict is None:
        return Cell()
    return Cell(verdict.words if verdict.words == TOO_FEW else f"{verdict.words}\np = {verdict.p:.2g}")


def _decimals(value: float) -> int:
    """Decimals of a number written with four digits, at most 8."""
    return min(8, max(0, 3 - floor(log10(abs(value))))) if value else 3


def _paper_cell(paper: Paper | None) -> Cell:
    if paper is None:
        return Cell()
    marks = {"unverified": not paper.verified, "other data": paper.other_data}
    return Cell(f"{paper.value:g}", tuple(mark for mark, holds in marks.items() if holds))


def _caption(summary: Sequence[Row], scores: Sequence[Curve], columns: Mapping[str, Any], unit: str) -> str:
    """How many seeds there are, and what the columns mean."""
    counts = {row.seeds for row in summary}
    seeds = f"{counts.pop()} each" if len(counts) == 1 else ", ".join(f"{row.label} {row.seeds}" for row in summary)
    text = f"Seeds: {seeds}. "
    if scores:
        named = ", ".join(each.title for each in scores)
        low = [each.title for each in scores if not each.higher_is_better]
        text += f"{named}: after the last {unit}, mean ± standard deviation over seeds. "
        text += f"Lower is better: {', '.join(low)}. " if low else ""
    if "difference" in columns:
        better = "" if scores[0].higher_is_better else "; below zero is better"
        text += _DIFFERENCE.format(unit=", in percentage points" if scores[0].in_percent else "", better=better)
    return text + "".join(words.format(unit=unit) for name, words in _EXPLAINED.items() if name in columns)


def _arrow(ends: tuple[float, float] | None, write: Any) -> str:
    return "" if ends is None else " → ".join(map(write, ends))


def _scientific(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-").replace("e+00", "")


def _deviation(spread: Spread, score: Curve) -> str:
    if isnan(spread.deviation):
        return ""
    return f" ± {_number(spread.deviation, score)}" if score.in_percent else f" ± {spread.deviation:.2g}"


def _number(value: float, score: Curve) -> str:
    """Two decimals of a percentage, four digits of anything else."""
    return _fixed(value, 2 if score.in_percent else _decimals(value))


def _fixed(value: float, decimals: int, *, sign: str = "-") -> str:
    """A number with so many decimals, a rounded -0.00 as 0.00; one that would fill the screen with an exponent."""
    if abs(value) >= 1e7:
        return f"{value:{sign}.2e}"
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"

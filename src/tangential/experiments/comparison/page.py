"""The page of a comparison: verdicts first, then all that they rest on; and its table, which the terminal shows too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tangential.experiments.comparison.sentences import numbers
from tangential.experiments.report.page import stylesheet
from tangential.experiments.report.paired import BETTER, EQUAL, WORSE, Difference
from tangential.experiments.report.strips import Strips, strips
from tangential.experiments.runs.files import replace_json, replace_text
from tangential.experiments.templates import render as render_page

PAGE, RECORD = "comparison.html", "comparison.json"

_TONES = {BETTER: "good", WORSE: "poor", EQUAL: "level"}


def save(outcome: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the page and the record of a comparison into its folder.

    Returns:
        Both files.

    Raises:
        OSError: The folder cannot be written.
    """
    replace_json(folder / RECORD, outcome)
    replace_text(folder / PAGE, render(outcome))
    return [folder / PAGE, folder / RECORD]


def render(outcome: Mapping[str, Any]) -> str:
    """The page as HTML, from a record as `outcome.outcome` makes it. Every text is escaped."""
    headings, *rows = table(outcome)
    return render_page(
        "comparison",
        title=outcome["name"],
        looks=stylesheet(),
        outcome=outcome,
        verdicts=[(pair["sentence"], _TONES.get(pair["verdict"], "open")) for pair in outcome["pairs"]],
        headings=headings,
        rows=rows,
        strips=_strips(outcome),
        number=_number,
        numbers=[numbers(pair, outcome["unit"]) for pair in outcome["pairs"]],
        protocol=json.dumps(outcome["protocol"], indent=2, ensure_ascii=False),
    )


def table(outcome: Mapping[str, Any]) -> list[list[str]]:
    """Headings, and a row for each optimizer.

    Returns:
        Lists of equally many texts; a column that no optimizer has is left out.
    """
    headings = ["optimizer", outcome["metric"]["label"], "tuned settings", "steps to target", "seconds to target",
                "within 1 %", "weight norm", "effective step", "projected", "ms/step"]  # fmt: skip
    rows = [_row(each) for each in outcome["optimizers"]]
    kept = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    return [[row[place] for place in kept] for row in (headings, *rows)]


def _row(optimizer: Mapping[str, Any]) -> list[str]:
    seeds = len(optimizer["scores"])
    spread = "" if optimizer["deviation"] is None else f" ± {_number(optimizer['deviation'])}"
    score = "diverged" if optimizer["mean"] is None else f"{_number(optimizer['mean'])}{spread}"
    if optimizer["diverged"] and seeds:
        score += f"\n{optimizer['diverged']} diverged"
    reached = f"{optimizer['reached']} of {seeds} reach it"
    steps, seconds = optimizer["steps_to_target"], optimizer["seconds_to_target"]
    projected = optimizer["projected"]
    return [
        optimizer["name"],
        score,
        "\n".join(f"{setting}={value}" for setting, value in optimizer["settings"].items()),
        reached if steps is None else f"{steps:,.0f}\n{reached}",
        "" if seconds is None else f"{seconds:.3g}",
        f"{100 * optimizer['within']:.0f} % of {optimizer['trials']}",
        " → ".join(f"{value:.2f}" for value in optimizer["norm"]),
        " → ".join(f"{value:.1e}".replace("e-0", "e-") for value in optimizer["effective_step"]),
        "\n".join(f"{100 * share:.0f} % of {_KINDS[kind]}" for kind, share in projected.items()),
        "" if optimizer["ms_per_step"] is None else f"{optimizer['ms_per_step']:.1f}",
    ]


_KINDS = {"invariant": "invariant", "others": "others"}


def _strips(outcome: Mapping[str, Any]) -> Strips | None:
    """The differences of every pair, and what rounding alone makes of the baselines."""
    drawn = {f"{pair['contender']} − {pair['reference']}": pair["differences"] for pair in outcome["pairs"]}
    drawn |= {f"{each['name']}, other rounding": each["differences"] for each in outcome["noise"]}
    differences = {
        label: Difference.of({int(seed): value for seed, value in values.items()}) for label, values in drawn.items()
    }
    return strips(differences, margin=outcome["margin"])


def _number(value: float | None) -> str:
    """Two decimals, or four digits where the number is small.

    Examples:
        >>> _number(99.123), _number(5.80321), _number(0.012345), _number(None)
        ('99.12', '5.80', '0.01235', '–')
    """
    if value is None:
        return "–"
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.4g}"

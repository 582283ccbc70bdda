"""The page of several comparisons: a line each, then what they show together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tangential.experiments.comparison.several import RATIOS
from tangential.experiments.report.page import stylesheet
from tangential.experiments.runs.files import replace_json, replace_text
from tangential.experiments.templates import render as render_page

PAGE, RECORD = "comparisons.html", "comparisons.json"


def save(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the page and the record of several comparisons into a folder.

    Returns:
        Both files.

    Raises:
        OSError: The folder cannot be written.
    """
    replace_json(folder / RECORD, record)
    replace_text(folder / PAGE, render(record))
    return [folder / PAGE, folder / RECORD]


def render(record: Mapping[str, Any]) -> str:
    """The page as HTML, from a record as `several.several` makes it. Every text is escaped."""
    return render_page(
        "comparisons", title="Comparisons", looks=stylesheet(), record=record, ratios=RATIOS, summary=summary
    )


def summary(common: Mapping[str, Any]) -> str:
    """What several comparisons of one pair show together, as a sentence.

    Examples:
        >>> found = {"reference": "sgd", "contender": "sgdp", "tasks": 8, "wins": 6, "losses": 1, "p": 0.125}
        >>> summary(found | {"improvement": 0.62, "improvement_low": 0.55, "improvement_high": 0.7})[:55]
        'sgdp is ahead of sgd in 6 of 8 tasks and behind in 1 (s'
    """
    low, high = 100 * common["improvement_low"], 100 * common["improvement_high"]
    return (
        f"{common['contender']} is ahead of {common['reference']} in {common['wins']} of {common['tasks']} tasks and"
        f" behind in {common['losses']} (sign test p = {common['p']:.2g}); probability that a run of it is the better"
        f" one: {100 * common['improvement']:.0f} % [{low:.0f}, {high:.0f}]"
    )

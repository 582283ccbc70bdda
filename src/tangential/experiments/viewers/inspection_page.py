"""The HTML page of an inspection: one file, no network, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tangential.experiments.runs.files import replace_text
from tangential.experiments.templates import render
from tangential.experiments.viewers.cosine_test import Dispute
from tangential.invariances import Invariances
from tangential.invariances.table import rows, summary


def save(path: Path, title: str, found: Invariances, disputes: Sequence[Dispute] = (), steps: int = 0) -> None:
    """Write the page.

    Args:
        path: The file.
        title: What was inspected.
        found: The facts.
        disputes: The paper's test beside them, if it was asked.
        steps: Over how many steps.

    Raises:
        OSError: The file cannot be written.
    """
    verdicts = [found.verdict(name) for name in found]
    text = render(
        "inspection",
        title=title,
        summary=summary(verdicts),
        notes=found.notes,
        rows=rows(verdicts),
        explained=[(name, found.verdict(name).label, found.explain(name)) for name in found],
        disputes=[each for each in disputes if each.wrong],
        agreed=sum(not each.wrong for each in disputes),
        steps=steps,
    )
    replace_text(path, text)

"""The HTML page of an inspection: one file, no network, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tangential.experiments.runs.files import replace_text
from tangential.experiments.templates import render
from tangential.experiments.viewers.cosine_test import CosineRecord
from tangential.invariances import Invariances
from tangential.invariances.table import rows, summary


def save(path: Path, title: str, found: Invariances, records: Sequence[CosineRecord] = (), steps: int = 0) -> None:
    """Write the page.

    Args:
        path: The file.
        title: What was inspected.
        found: The analysis.
        records: The paper's cosine test on each weight, if it was run.
        steps: Over how many training steps.

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
        disputes=[each for each in records if each.wrong],
        agreed=sum(not each.wrong for each in records),
        steps=steps,
    )
    replace_text(path, text)

"""Findings of a comparison in sentences, and the settings in which its groups differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.curves import Curve, curve
from tangential.experiments.report.paired import BETTER, TOO_FEW, WORSE
from tangential.experiments.report.tables import Row, rows

SENTENCES = 4
"""Most differences that have a sentence each; of more, the decided ones have, and the others are counted."""
COLUMNS = 12
"""Most settings that are shown side by side."""
_UNTOLD = ("paper", "headline", "optimizer", "compared", "made_by.class")
"""Settings that say what the group's name says, or that are no settings of the run."""


def sentences(comparison: Comparison) -> list[str]:
    """What the finished runs show: a sentence per difference between an optimizer and its baseline."""
    if not comparison.scores:
        return []
    score = curve(comparison.scores[0], comparison.headlines)
    baselines = {projected.label: baseline.label for baseline, projected in comparison.pairs()}
    compared = [row for row in rows(comparison) if row.verdict is not None]
    told = compared
    summary = []
    if len(compared) > SENTENCES:
        told = [row for row in compared if row.verdict and row.verdict.words in (BETTER, WORSE)]
        counts = Counter(row.verdict.words for row in compared if row.verdict)
        summary = [f"Of {len(compared)} differences: {', '.join(f'{n} {words}' for words, n in counts.most_common())}."]
    return summary + [_sentence(row, baselines[row.label], score) for row in told]


def _sentence(row: Row, baseline: str, score: Curve) -> str:
    assert row.difference is not None and row.verdict is not None
    mean, seeds = row.difference.spread.mean, len(row.difference.values)
    form = "+.2f" if score.in_percent else "+.3g"
    unit = "percentage points of" if score.in_percent else "in"
    by = f"{mean:{form}} {unit} {score.title[0].lower()}{score.title[1:]}"
    count = f"{seeds} seed{'' if seeds == 1 else 's'}"
    if row.verdict.words == TOO_FEW:
        return f"{row.label} against {baseline}: {by} over {count}, too few to tell."
    interval = (
        f"95 % interval {row.difference.low:{form}} to {row.difference.high:{form}}, p = {row.verdict.p:.2g}, {count}"
    )
    if row.verdict.words in (BETTER, WORSE):
        return f"{row.label} is {row.verdict.words} than {baseline}: {by} ({interval})."
    return f"{row.label} against {baseline} is {row.verdict.words}: {by} ({interval})."


def differing_settings(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The settings in which groups differ.

    Returns:
        Their names, at most `COLUMNS`, and a list of values per group; both empty where none differs.
    """
    chosen = [_without(group.settings, "defaults") for group in comparison.groups]
    known = [
        {**_without(group.settings, "arguments"), **own} for group, own in zip(comparison.groups, chosen, strict=True)
    ]
    names = dict.fromkeys(name for own in chosen for name in own if not name.startswith(_UNTOLD))
    differing = [name for name in names if len({own.get(name, "") for own in known}) > 1][:COLUMNS]
    return differing, [[own.get(name, "") for name in differing] for own in known] if differing else []


def _without(settings: Mapping[str, Any], part: str) -> dict[str, str]:
    """All settings by their dotted names, without the optimizer's `defaults` or `arguments`, whose names are bare."""
    flat = {name: value for name, value in _flat(settings) if not name.startswith(f"made_by.{part}.")}
    return {
        name.removeprefix("made_by.arguments.").removeprefix("made_by.defaults."): value for name, value in flat.items()
    }


def _flat(settings: Mapping[str, Any], above: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Each setting with its dotted name and its value as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, str(key)))
        else:
            yield ".".join((*above, str(key))), str(value)

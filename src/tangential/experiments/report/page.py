"""The HTML page of a comparison: one file with everything in it, that asks the network for nothing.

Its size is bounded whatever the runs are: curves have at most `series.POINTS` points, there are at most `curves.MOST`
of them, and the layer explorer has its own bound.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tangential.experiments.report import curves, tables
from tangential.experiments.report import png as pictures
from tangential.experiments.report.comparison import Comparison, Group, Run
from tangential.experiments.report.explorer import explorer
from tangential.experiments.report.series import Array
from tangential.experiments.runs.files import replace_text
from tangential.experiments.templates import render as render_page
from tangential.invariances import Invariances
from tangential.invariances import table as facts

PAGE = "report.html"

_SCRIPTS = ("state.js", "charts.js", "layers.js", "page.js")
_STATIC = Path(__file__).parent / "static"


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the page and the PNG plots into a folder.

    Returns:
        The page, then the plots.

    Raises:
        ValueError: A file about the model's invariances is broken.
        OSError: The folder cannot be written.
    """
    page = folder / PAGE
    replace_text(page, render(comparison, pages=_pages(comparison, page)))
    return [page, *pictures.save_pictures(comparison, folder)]


def render(
    comparison: Comparison,
    *,
    live: bool = False,
    scripts: bool = True,
    error: str = "",
    pages: Sequence[tuple[str, str]] = (),
) -> str:
    """Write the page as HTML. Whatever comes from a run folder is escaped, names, settings and environment alike.

    Args:
        comparison: What it is about.
        live: Whether the page asks its server for news.
        scripts: Whether the plotting library and the page's own code are in it; a page that only brings news to one
            that is open already needs neither.
        error: What keeps the runs from being read, if anything does.
        pages: What it links to, as (text, address) each.

    Raises:
        ValueError: A file about the model's invariances is broken.
    """
    return render_page(
        "report",
        title=comparison.title,
        about=_about(comparison),
        notes=comparison.notes,
        error=error,
        table=tables.table(comparison),
        running=[(f"{g.label}, seed {seed}", run.progress) for g, seed, run in _runs(comparison) if not run.finished],
        unfinished=comparison.unfinished,
        pages=pages,
        live=live,
        data=data(comparison),
        invariances=list(_invariances(comparison)),
        settings=[(group.label, _arguments(group), _pretty(group.settings)) for group in comparison.groups],
        environments=_environments(comparison),
        # These are files of packages, the only things on the page that are not escaped.
        plotly=Markup(get_plotlyjs()) if scripts else "",
        code=[Markup((_STATIC / name).read_text()) for name in _SCRIPTS] if scripts else [],
        looks=Markup((_STATIC / "page.css").read_text()),
    )


def data(comparison: Comparison) -> dict[str, Any]:
    """Gather what the page draws, as JSON's own types.

    Returns:
        `unit`; `colours` of a light and a dark page; `groups` with `label`, `hue`, `role` and `seeds`; `charts`, each
        with its `key`, `title`, `axis`, `log` and a line per group; and `layers`, as `explorer` gives them, or None.
    """
    roles = curves.roles(comparison)
    return {
        "unit": comparison.unit,
        "colours": {"light": pictures.LIGHT, "dark": pictures.DARK},
        "groups": [
            {
                "label": group.label,
                "hue": roles[group.label][0],
                "role": roles[group.label][1],
                "seeds": len(group.runs),
            }
            for group in comparison.groups
        ],
        "charts": [_chart(comparison, curve) for curve in curves.chosen(comparison)],
        "layers": explorer(comparison),
    }


def _chart(comparison: Comparison, curve: curves.Curve) -> dict[str, Any]:
    lines = curves.lines(comparison, curve)
    positive = all(float(line.band.low.min()) > 0 for line in lines)
    return {
        "key": curve.key,
        "title": curve.title,
        "axis": curve.axis,
        "log": curve.log and positive,
        "lines": [
            {"group": line.label, "x": line.band.x.tolist(), **{k: _digits(getattr(line.band, k)) for k in _ENDS}}
            for line in lines
        ],
    }


_ENDS = ("mean", "low", "high")


def _digits(values: Array) -> list[float]:
    return [float(f"{value:.7g}") for value in values.tolist()]


def _about(comparison: Comparison) -> str:
    """One line: how many optimizers and runs there are."""
    runs = _runs(comparison)
    last = max((int(series.x[-1]) for _, _, run in runs for series in run.curves.values()), default=0)
    counts = [(len(runs), "run"), (last, comparison.unit)]
    if comparison.noun != "run":
        counts.insert(0, (len(comparison.groups), comparison.noun))
    return ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


def _runs(comparison: Comparison) -> list[tuple[Group, int, Run]]:
    return [(group, seed, group.runs[seed]) for group in comparison.groups for seed in sorted(group.runs)]


def _pages(comparison: Comparison, page: Path) -> list[tuple[str, str]]:
    """The pages of single runs, as they are reached from the report's own."""
    page = page.resolve()
    return [
        (f"{group.label}, seed {seed}: {path.stem}", quote(os.path.relpath(path.resolve(), page.parent)))
        for group, seed, run in _runs(comparison)
        for path in run.pages
        if path.resolve() != page
    ]


def _invariances(comparison: Comparison) -> Iterable[dict[str, Any]]:
    """Each different answer once, with the groups whose model it is about."""
    answers: dict[str, list[str]] = {}
    for group, _, run in _runs(comparison):
        if run.invariances is not None:
            answers.setdefault(run.invariances, []).append(group.label)
    for text, labels in answers.items():
        try:
            found = Invariances.from_json(text)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"invariances.json of {labels[0]} is broken ({error}); delete it, or ask again") from error
        verdicts = [found.verdict(name) for name in found]
        of = ", ".join(dict.fromkeys(labels)) if len(answers) > 1 else ""
        yield {"of": of, "summary": facts.summary(verdicts), "notes": found.notes, "rows": facts.rows(verdicts)}


def _arguments(group: Group) -> str:
    """The optimizer's arguments as they were given, short."""
    made_by: Any = group.settings.get("made_by")
    given = made_by.get("arguments") if isinstance(made_by, dict) else None
    return ", ".join(f"{name}={value}" for name, value in given.items()) if isinstance(given, dict) else ""


def _environments(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each environment once, as (command, names and values of all else)."""
    distinct = {_pretty(group.environment): group.environment for group in comparison.groups if group.environment}
    return [
        (str(each.get("command", "")), [(str(k), _plain(v)) for k, v in each.items() if k != "command"])
        for each in distinct.values()
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=_number)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)

"""The HTML page of a comparison: one file with everything in it, that asks the network for nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tangential.pages import render as render_page
from tangential.report import charts, tables
from tangential.report.groups import Comparison, Group
from tangential.runs import replace_text

PAGE = "report.html"


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the page and the PNG plots into a folder.

    Returns:
        The page, then the plots.

    Raises:
        OSError: The folder cannot be written.
    """
    page = folder / PAGE
    replace_text(page, render(comparison))
    return [page, *charts.save_pictures(comparison, folder)]


def render(comparison: Comparison) -> str:
    """Write the page as HTML. Whatever comes from a run folder is escaped, names, settings and environment alike."""
    summary = tables.rows(comparison)
    return render_page(
        "tangential.report",
        title=" and ".join(dict.fromkeys(str(group.settings.get("recipe", "runs")) for group in comparison.groups)),
        headings=tables.headings(comparison),
        rows=[list(zip(tables.headings(comparison), tables.cells(row), strict=True)) for row in summary],
        caption=tables.caption(summary),
        unfinished=comparison.unfinished,
        charts=[(curve, charts.interactive(comparison, curve)) for curve in charts.curves(comparison)],
        colours={"light": charts.LIGHT, "dark": charts.DARK},
        settings=[(group.label, _arguments(group), _pretty(group.settings)) for group in comparison.groups],
        environments=_environments(comparison),
        plotly=Markup(get_plotlyjs()),  # a package's own file, the only thing on the page that is not escaped
    )


def _arguments(group: Group) -> str:
    """The optimizer's arguments as they were given, short."""
    made_by: Any = group.settings.get("made_by")
    given = made_by.get("arguments") if isinstance(made_by, dict) else None
    return ", ".join(f"{name}={value}" for name, value in given.items()) if isinstance(given, dict) else ""


def _environments(comparison: Comparison) -> list[tuple[str, str]]:
    """Each environment once, as (command, JSON)."""
    distinct = {_pretty(group.environment): group.environment for group in comparison.groups}
    return [(str(environment.get("command", "")), text) for text, environment in distinct.items()]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)

"""The HTML page of a comparison: one file with everything in it, which requests nothing from the network.

Its size is bounded whatever the runs are: curves have at most `series.POINTS` points, there are at most `curves.MOST`
of them, and the layer explorer has its own bound.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from tangential import __version__
from tangential.experiments.report import curves, findings, png, tables
from tangential.experiments.report.comparison import Comparison, Group
from tangential.experiments.report.explorer import explorer
from tangential.experiments.report.run_files import Facts, Run
from tangential.experiments.report.strips import strips
from tangential.experiments.report.styles import styles
from tangential.experiments.report.values import finite_or_none
from tangential.experiments.runs.files import replace_text
from tangential.experiments.templates import render as render_page

PAGE = "report.html"

_PLOTLY = "plotly-basic.min.js"
"""The bundle of plotly.js 3.7.0 that has lines and little else, from npm; its licence stands at its beginning."""
_SCRIPTS = ("state.js", "charts.js", "layers.js", "table.js", "address.js", "downloads.js", "page.js")
_STATIC = Path(__file__).parent / "static"


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the page and the PNG plots into a folder.

    Returns:
        The page, then the plots.

    Raises:
        OSError: The folder cannot be written.
    """
    page = folder / PAGE
    replace_text(page, render(comparison, pages=_pages(comparison, page), date=datetime.now().strftime("%Y-%m-%d")))
    return [page, *png.save_plots(comparison, folder)]


def render(
    comparison: Comparison,
    *,
    live: bool = False,
    scripts: bool = True,
    error: str = "",
    pages: Sequence[tuple[str, str]] = (),
    date: str = "",
) -> str:
    """The page as HTML. Whatever comes from a run folder is escaped, names, settings and environment alike.

    Args:
        comparison: What it shows.
        live: Whether the page polls its server for changes.
        scripts: Whether the plotting library and the page's own code are in it; an update of a page that is open
            already needs neither.
        error: Why no run can be shown, if none can.
        pages: Links, as (text, address) each.
        date: When the page was made; a live page has none.
    """
    html = render_page(
        "report",
        title=comparison.title,
        about=_about(comparison),
        notes=comparison.notes,
        error=error,
        table=tables.table(comparison),
        sentences=findings.sentences(comparison),
        differing=_differing(comparison),
        date=date,
        version=__version__,
        strips=strips({row.label: row.difference for row in tables.rows(comparison) if row.difference is not None}),
        running=[(f"{g.label}, seed {seed}", run.progress) for g, seed, run in _runs(comparison) if not run.finished],
        unfinished=comparison.unfinished,
        pages=pages,
        live=live,
        data=data(comparison),
        invariances=list(_invariances(comparison)),
        settings=[(group.label, _arguments(group), _pretty(group.settings)) for group in comparison.groups],
        environments=_environments(comparison),
        # These are files of this package, the only things on the page that are not escaped.
        plotly=_script(_PLOTLY) if scripts else "",
        code=[_script(name) for name in _SCRIPTS] if scripts else [],
        looks=stylesheet(),
    )
    return html.encode("utf-8", "backslashreplace").decode()  # JSON may hold half of a surrogate pair, UTF-8 may not


def _script(name: str) -> Markup:
    return Markup((_STATIC / name).read_text("utf-8"))


def _differing(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The settings in which groups differ, and the values of each group."""
    names, values = findings.differing_settings(comparison)
    return names, list(zip([group.label for group in comparison.groups], values, strict=False))


def stylesheet() -> Markup:
    """The looks that pages of results share."""
    return Markup((_STATIC / "page.css").read_text("utf-8"))


def data(comparison: Comparison) -> dict[str, Any]:
    """What the page draws, as JSON's own types.

    Returns:
        `unit`; `groups` with `label`, `hue`, `role`, the colours `light` and `dark`, `dash` and the number of `seeds`;
        `charts`, each with its `key`, `title`, `axis`, `log` and a line per group; and `layers`, as `explorer` gives
        them, or None.
    """
    looks = styles(comparison)
    return {
        "unit": comparison.unit,
        "groups": [
            {
                "label": group.label,
                "seeds": len(group.runs),
                **{name: getattr(looks[group.label], name) for name in ("hue", "role", "light", "dark", "dash")},
            }
            for group in comparison.groups
        ],
        "charts": [_chart(chart) for chart in curves.charts(comparison)],
        "layers": explorer(comparison),
    }


def _chart(chart: curves.Chart) -> dict[str, Any]:
    curve = chart.curve
    return {
        "key": curve.key,
        "title": curve.title,
        "axis": curve.axis,
        "log": chart.log,
        "lines": [
            {
                "group": line.label,
                "x": line.band.x.tolist(),
                **{name: finite_or_none(getattr(line.band, name), 7) for name in ("mean", "low", "high")},
            }
            for line in chart.lines
        ],
    }


def _about(comparison: Comparison) -> str:
    """One line: the numbers of optimizers, runs and epochs."""
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
        (f"{group.label}, seed {seed}: {path.stem}", quote(os.fsencode(os.path.relpath(path.resolve(), page.parent))))
        for group, seed, run in _runs(comparison)
        for path in run.pages
        if path.resolve() != page
    ]


def _invariances(comparison: Comparison) -> Iterable[dict[str, Any]]:
    """Each different answer once, with the groups whose model it is about."""
    answers: dict[Facts, list[str]] = {}
    for group, _, run in _runs(comparison):
        if run.invariances is not None:
            answers.setdefault(run.invariances, []).append(group.label)
    for found, labels in answers.items():
        of = ", ".join(dict.fromkeys(labels)) if len(answers) > 1 else ""
        yield {"of": of, "summary": found.summary, "notes": found.notes, "rows": found.rows}


def _arguments(group: Group) -> str:
    """The optimizer's arguments in one line."""
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

"""The charts of a comparison as PNG files, for papers and slides."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.curves import NORM, STEP, Chart, Line, chart
from tangential.experiments.report.text import escaped, shortened
from tangential.experiments.runs.files import replace_file

_DASHES = {"solid": "-", "dash": (0, (4, 2)), "dot": ":", "dashdot": "-."}
_LETTERS = 40  # of a label, so that it leaves room for the plot
_LEGEND_ROW = 0.25  # inches
_LINE = 80  # letters of the legend's in the width of a chart
_FILE_LETTERS = 40  # of four bytes at most; file systems take 255 bytes


def save_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw the first score, the norm and the effective step, as far as they are there, as PNG files into a folder.

    Returns:
        The files.

    Raises:
        OSError: The folder cannot be written.
    """
    paths = []
    for name, charts in _plots(comparison).items():
        lines = {line.label: line for each in charts for line in each.lines}
        letters = max(len(_label(label)) for label in lines) + len("--- and gaps")
        columns = max(1, min(len(lines), _LINE * len(charts) // letters))
        height = 4.0 + _LEGEND_ROW * -(-len(lines) // columns)
        figure = Figure(figsize=(6.4 * len(charts), height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for position, each in enumerate(charts, start=1):
            _draw(figure.add_subplot(1, len(charts), position), each, comparison.unit)
        _add_legend(figure, list(lines.values()), columns)
        paths.append(folder / name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
            replace_file(paths[-1], lambda file, figure=figure: figure.savefig(file, format="png"))
    return paths


def _plots(comparison: Comparison) -> dict[str, Sequence[Chart]]:
    """File name -> the charts side by side in it."""
    there = set(comparison.quantities())
    measured = [chart(comparison, each.key) for each in (NORM, STEP) if each.key in there]
    plots: dict[str, Sequence[Chart]] = {}
    if comparison.scores:
        score = comparison.scores[0]
        plots[f"{_file_name(score.removeprefix('test_'))}.png"] = (chart(comparison, score),)
    plots |= {f"{each.curve.key}.png": (each,) for each in measured}
    return plots | ({"overview.png": measured} if len(measured) == 2 else {})


def _file_name(name: str) -> str:
    """What is safe in the name of a file, of a name that may hold anything."""
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return safe[:_FILE_LETTERS] or "score"


def _draw(axes: Axes, drawn: Chart, unit: str) -> None:
    for line in drawn.lines:
        band, style = line.band, line.style
        axes.fill_between(band.x, band.low, band.high, color=style.light, alpha=0.15, linewidth=0)
        marker = "o" if len(band.x) == 1 else None
        axes.plot(band.x, band.mean, color=style.light, linestyle=_DASHES[style.dash], marker=marker, linewidth=2)
    axes.set(xlabel=unit, yscale="log" if drawn.log else "linear")
    axes.set_title(_label(drawn.curve.title), parse_math=False)
    axes.set_ylabel(_label(drawn.curve.axis), parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _add_legend(figure: Figure, lines: Sequence[Line], columns: int) -> None:
    """One legend for all charts, below them, where it covers nothing."""
    handles = [Line2D([], [], color=x.style.light, linestyle=_DASHES[x.style.dash], linewidth=2) for x in lines]
    legend = figure.legend(
        handles, ["-"] * len(lines), loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6
    )
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)  # a dollar in a name is a dollar
        text.set_text(_label(line.label))  # here, because a legend leaves out labels that begin with "_"


def _label(name: str) -> str:
    return shortened(escaped(name), _LETTERS)

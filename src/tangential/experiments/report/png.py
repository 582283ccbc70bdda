"""The curves of a comparison as PNG files.

A baseline and its projected optimizer share a hue. The baseline is the dashed, paler line of the two, so that they are
told apart without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.curves import NORM, STEP, Curve, Line, curve, lines

# (baseline, projected) of each hue; neighbours differ in lightness too, and both stand out from the page's backgrounds
LIGHT = (
    ("#5b9bd5", "#004c8c"),  # blue
    ("#e08a2e", "#a63d00"),  # orange
    ("#43a581", "#005c45"),  # green
    ("#b07cc6", "#6b2d86"),  # purple
    ("#a0894f", "#5e4a12"),  # ochre
    ("#8a939e", "#3d4650"),  # grey
)
DARK = (
    ("#4a8cc7", "#9dd1ff"),
    ("#c4742a", "#ffbe85"),
    ("#3d9a78", "#8fe3c3"),
    ("#9a66b3", "#e0b8f2"),
    ("#a08a4c", "#ecd99c"),
    ("#7f8893", "#ccd3db"),
)

_DASHES = {"baseline": (0, (4, 2)), "projected": "-", "single": "-"}


def save_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw the first score, the norm and the effective step as PNG files into a folder, as far as they are there.

    Returns:
        The files.

    Raises:
        OSError: The folder cannot be written.
    """
    paths = []
    for name, drawn in _pictures(comparison).items():
        figure = Figure(figsize=(6.4 * len(drawn), 4.0), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for position, each in enumerate(drawn, start=1):
            _draw(figure.add_subplot(1, len(drawn), position), lines(comparison, each), each, comparison.unit)
        paths.append(folder / name)
        figure.savefig(paths[-1])
    return paths


def _pictures(comparison: Comparison) -> dict[str, tuple[Curve, ...]]:
    """File name -> what is drawn side by side."""
    there = [each for each in (NORM, STEP) if each.key in comparison.quantities()]
    pictures = {f"{each.key}.png": (each,) for each in there}
    if comparison.scores:
        score = curve(comparison.scores[0], comparison.headlines)
        # Of a name that may hold anything, only what is safe in the name of a file.
        safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in score.key.removeprefix("test_"))
        pictures = {f"{safe}.png": (score,), **pictures}
    return pictures | ({"overview.png": (NORM, STEP)} if len(there) == 2 else {})


def _short(label: str) -> str:
    """A label that leaves room for the plot; of a long one the end, where the optimizer stands."""
    return label if len(label) <= 40 else f"…{label[-39:]}"


def _draw(axes: Axes, drawn: Sequence[Line], shown: Curve, unit: str) -> None:
    for line in drawn:
        band, colour = line.band, LIGHT[line.hue % len(LIGHT)][line.role != "baseline"]
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        marker = "o" if len(band.x) == 1 else None
        style = {"linestyle": _DASHES[line.role], "marker": marker, "linewidth": 2}
        axes.plot(band.x, band.mean, color=colour, label=_short(line.label), **style)
    axes.set(xlabel=unit, yscale="log" if shown.log else "linear")
    axes.set_title(shown.title, parse_math=False)
    axes.set_ylabel(shown.axis, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False, handlelength=2.6).get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar

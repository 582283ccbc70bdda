"""The curves of a comparison: mean over seeds against epochs, in a band that holds every seed; for a browser and PNG.

A baseline and its projected optimizer share a hue. The baseline is the dashed, paler line of the two, so that they are
told apart without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tangential.report.groups import Comparison, Group
from tangential.report.tables import headline
from tangential.task import Headline

Array = np.ndarray


@dataclass(frozen=True)
class Curve:
    """One quantity of the metrics, as it is drawn.

    Args:
        key: Its name in the metrics.
        title: What stands above the plot.
        axis: What stands beside it, with the unit.
        scale: What a value is multiplied with.
        log: Whether the axis is logarithmic.
    """

    key: str
    title: str
    axis: str
    scale: float = 1.0
    log: bool = False


LOSS = Curve("train_loss", "Training loss", "training loss (nats)", log=True)
NORM = Curve("weight_norm", "Weight norm", "mean weight norm |w|")
STEP = Curve("effective_step", "Effective step size", "mean effective step |Δ(w/|w|)|", log=True)
PICTURES = {
    "weight_norm.png": (NORM,),
    "effective_step.png": (STEP,),
    "overview.png": (NORM, STEP),
}

# (baseline, projected) of each hue: blue, orange, green, purple; checked for contrast on the page's two backgrounds
LIGHT = (("#5b9bd5", "#004c8c"), ("#e08a2e", "#a63d00"), ("#43a581", "#005c45"), ("#b07cc6", "#6b2d86"))
DARK = (("#4a8cc7", "#9dd1ff"), ("#c4742a", "#ffbe85"), ("#3d9a78", "#8fe3c3"), ("#9a66b3", "#e0b8f2"))


@dataclass(frozen=True)
class Line:
    """One group's curve: mean, least and greatest value over seeds, per epoch, and how it is drawn."""

    label: str
    mean: Array
    low: Array
    high: Array
    hue: int
    projected: bool

    @property
    def epochs(self) -> Array:
        """The epochs, from 1."""
        return np.arange(1, len(self.mean) + 1)


def curves(comparison: Comparison) -> tuple[Curve, ...]:
    """Give the curves of the page: the score of the comparison first, if its groups have the same one."""
    shown = {headline(group) for group in comparison.groups}
    return (*map(_score, shown if len(shown) == 1 else ()), NORM, STEP, LOSS)


def lines(comparison: Comparison, curve: Curve) -> list[Line]:
    """Summarise a quantity over the seeds of each group."""
    hues = _hues(comparison)
    made = []
    for group in comparison.groups:
        values = curve.scale * np.array([[record[curve.key] for record in run] for run in group.runs.values()])
        made.append(
            Line(_short(group.label), values.mean(axis=0), values.min(axis=0), values.max(axis=0), *hues[group.label])
        )
    return made


def interactive(comparison: Comparison, curve: Curve) -> dict[str, Any]:
    """Describe a plotly figure, without colours: the page has them, for a light and a dark background.

    Returns:
        JSON with `data` and `layout` for `Plotly.newPlot`; each trace says in `meta` which hue it has, whether it is
        the projected one of its pair and whether it is a band.
    """
    data = [trace for line in lines(comparison, curve) for trace in _traces(line)]
    epochs = max(len(trace["x"]) for trace in data[1::2])
    layout = {
        "xaxis": {"title": {"text": "epoch"}} | ({"dtick": 1} if epochs <= 10 else {}),
        "yaxis": {"title": {"text": escape(curve.axis)}, "type": "log" if curve.log else "linear"},
    }
    if curve.log:
        layout["yaxis"] |= {"dtick": 1, "exponentformat": "power"}
    return {"data": data, "layout": layout}


def save_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw the score and the plots of `PICTURES` as PNG files into a folder.

    Returns:
        The files.

    Raises:
        OSError: The folder cannot be written.
    """
    paths = []
    score, *_ = curves(comparison)
    first = {} if score is NORM else {f"{score.key.removeprefix('test_')}.png": (score,)}
    for name, drawn in (first | PICTURES).items():
        figure = Figure(figsize=(6.4 * len(drawn), 4.0), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for position, curve in enumerate(drawn, start=1):
            _draw(figure.add_subplot(1, len(drawn), position), lines(comparison, curve), curve)
        paths.append(folder / name)
        figure.savefig(paths[-1])
    return paths


def _score(shown: Headline) -> Curve:
    return Curve(f"test_{shown.name}", f"Test {shown.name}", f"test {shown.label}", scale=shown.scale)


def _short(label: str) -> str:
    """A label that leaves room for the plot; of a long one the end, where the optimizer stands."""
    return label if len(label) <= 40 else f"…{label[-39:]}"


def _hues(comparison: Comparison) -> dict[str, tuple[int, bool]]:
    """Label -> (number of its hue, whether it is the projected one of its pair)."""
    families = list(dict.fromkeys(_family(group) for group in comparison.groups))
    return {g.label: (families.index(_family(g)) % len(LIGHT), g.baseline is not None) for g in comparison.groups}


def _family(group: Group) -> str:
    return group.baseline or group.label


def _traces(line: Line) -> list[dict[str, Any]]:
    """The band and the line over it; plotly reads a little HTML in names, so they are escaped."""
    epochs = line.epochs
    meta = {"hue": line.hue, "projected": line.projected}
    name = escape(line.label, quote=False)
    band = {
        "x": [*epochs.tolist(), *epochs[::-1].tolist()],
        "y": [*line.high.tolist(), *line.low[::-1].tolist()],
        "fill": "toself",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": name,
        "meta": {**meta, "band": True},
    }
    curve = {
        "x": epochs.tolist(),
        "y": line.mean.tolist(),
        "customdata": np.stack([line.low, line.high], axis=1).tolist(),
        "hovertemplate": "%{y:.4~g} (%{customdata[0]:.4~g} to %{customdata[1]:.4~g})",
        "line": {"width": 2.5, "dash": "solid" if line.projected else "dash"},
        "mode": "lines+markers" if len(epochs) == 1 else "lines",
        "name": name,
        "legendgroup": name,
        "meta": {**meta, "band": False},
    }
    return [band, curve]


def _draw(axes: Axes, drawn: Sequence[Line], curve: Curve) -> None:
    for line in drawn:
        colour = LIGHT[line.hue][line.projected]
        axes.fill_between(line.epochs, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        dash, marker = ("-" if line.projected else (0, (4, 2))), ("o" if len(line.mean) == 1 else None)
        axes.plot(line.epochs, line.mean, color=colour, linestyle=dash, marker=marker, linewidth=2, label=line.label)
    axes.set(title=curve.title, xlabel="epoch", ylabel=curve.axis, yscale="log" if curve.log else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False, handlelength=2.6).get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar

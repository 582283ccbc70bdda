"""Plots of the toy problems: loss landscape, trajectories, loss and norm. Needs matplotlib, of the extra `recipes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangential.paper.toys.optimizers import DECAY, GD, MOMENTUM, OURS, PROJECTED_BUFFER
from tangential.paper.toys.problems import ANGLE, on_chart, on_sphere
from tangential.paper.toys.trajectories import Trajectory

Array = np.ndarray

STYLES: dict[str, dict[str, Any]] = {  # of Okabe and Ito's palette for colour-blind readers, and by dashes too
    GD: dict(color="#333333", linestyle=(0, (1, 1))),
    MOMENTUM: dict(color="#D55E00", linestyle=(0, (5, 1.5))),
    DECAY: dict(color="#E69F00", linestyle=(0, (3, 1, 1, 1))),
    PROJECTED_BUFFER: dict(color="#56B4E9", linestyle="-"),
    OURS: dict(color="#0072B2", linestyle="-"),
}
OTHERS = ("#009E73", "#CC79A7", "#882255")
SHADES = "Greys"
MARKED = 100
"""The iteration that has a ring in the plane."""

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "svg.hashsalt": "tangential",  # the same picture gives the same file
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Moving:
    """A trajectory in one panel, as long as an animation has drawn it.

    Args:
        line: The line.
        dot: Its end; None where only the line is drawn.
        points: What it goes through, `(steps + 1, 2 or 3)`.
    """

    line: Any
    dot: Line2D | None
    points: Array

    def to(self, end: int) -> list[Any]:
        """Show the trajectory up to a step; returns what was changed."""
        if self.points.shape[1] == 3:
            self.line.set_data_3d(*self.points[: end + 1].T)
        else:
            self.line.set_data(*self.points[: end + 1].T)
        if self.dot is None:
            return [self.line]
        self.dot.set_data(*self.points[end : end + 1].T)
        return [self.line, self.dot]


def save(trajectories: Sequence[Trajectory], file: Path, *, dpi: int = 100) -> Path:
    """Draw runs on one toy into a file.

    Args:
        trajectories: The runs.
        file: Where to; the suffix selects the format, `.png` or `.svg`.
        dpi: Pixels per inch of a PNG, and of the shades in an SVG.

    Returns:
        The file.

    Raises:
        ValueError: No run, runs on different toys, or another suffix.
        OSError: The file cannot be written.
    """
    if file.suffix not in (".png", ".svg"):
        raise ValueError(f"{file}: a plot is written as .png or .svg; animation.save writes .gif")
    figure, _ = draw(trajectories)
    with mpl.rc_context(SETTINGS):
        figure.savefig(file, dpi=dpi, metadata={"Date": None} if file.suffix == ".svg" else None)
    return file


def draw(trajectories: Sequence[Trajectory]) -> tuple[Figure, list[Moving]]:
    """Draw runs on one toy.

    Args:
        trajectories: The runs.

    Returns:
        The figure, and what an animation moves in it.

    Raises:
        ValueError: No run, or runs on different toys.
    """
    toys = sorted({trajectory.toy.name for trajectory in trajectories})
    if len(toys) != 1:
        raise ValueError(
            f"{len(trajectories)} runs on the toys {toys} came: draw at least one run, and one toy at a time"
        )
    with mpl.rc_context(SETTINGS):
        return _draw_circle(trajectories) if toys == ["2d"] else _draw_sphere(trajectories)


def _draw_circle(trajectories: Sequence[Trajectory]) -> tuple[Figure, list[Moving]]:
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.15))
    plane, loss, norm = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    _shade_plane(plane, trajectories)
    moving = _lines(plane, trajectories, [trajectory.points.numpy() for trajectory in trajectories])
    moving += _curves(loss, norm, trajectories)
    _legend(figure, moving[: len(trajectories)])
    return figure, moving


def _shade_plane(axes: Axes, trajectories: Sequence[Trajectory]) -> None:
    """The loss as a shade, which changes with the angle alone; the unit circle; where the loss is least."""
    points = torch.cat([trajectory.points for trajectory in trajectories])
    (left, low), (right, high) = (points.amin(0) - 0.4).tolist(), (points.amax(0) + 0.4).tolist()
    left, right, low, high = min(left, -1.2), max(right, 1.4), min(low, -1.5), max(high, 1.3)
    x, y = torch.meshgrid(torch.linspace(left, right, 300), torch.linspace(low, high, 300), indexing="xy")
    shade = trajectories[0].toy.loss(torch.stack([x, y], -1) + 1e-9).numpy()
    axes.imshow(shade, extent=(left, right, low, high), origin="lower", cmap=SHADES, vmin=0, vmax=8)
    around = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color="#999999", linewidth=0.8)
    axes.plot([0, 0], [0, low], color="#999999", linewidth=0.8)
    axes.annotate("least loss", (0, low), (-4, 6), textcoords="offset points", fontsize=9, ha="right")
    axes.annotate("|w| = 1", (-0.98, -0.18), (4, -4), textcoords="offset points", fontsize=9)
    _start(axes, trajectories[0].toy.start)
    for trajectory, style in zip(trajectories, styles(trajectories), strict=True):
        axes.plot(*trajectory.points[MARKED], marker="o", markersize=6, markerfacecolor="white", color=style["color"])
    axes.set(title=f"darker: larger loss; ring: iteration {MARKED}", aspect="equal")
    axes.set(xlim=(left, right), ylim=(low, high))


def _draw_sphere(trajectories: Sequence[Trajectory]) -> tuple[Figure, list[Moving]]:
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.6, 1))
    ball: Any = figure.add_subplot(grid[0, 0], projection="3d", computed_zorder=False)
    chart, norm, loss = (figure.add_subplot(grid[at]) for at in ((0, 1), (1, 0), (1, 1)))
    _shade_chart(chart, trajectories)
    moving = _lines(chart, trajectories, [on_chart(trajectory.points).numpy() for trajectory in trajectories])
    moving += _on_ball(ball, trajectories) + _curves(loss, norm, trajectories)
    _legend(figure, moving[: len(trajectories)])
    return figure, moving


def _on_ball(axes: Any, trajectories: Sequence[Trajectory]) -> list[Moving]:
    """The loss on the sphere, and the directions that the weights went through."""
    pole = ANGLE * np.pi / 2
    across, up = torch.linspace(-2 * pole, 2 * pole, 180), torch.linspace(-pole, pole, 90)
    sphere = on_sphere(torch.stack(torch.meshgrid(across, up, indexing="xy"), -1))
    shade = mpl.colormaps[SHADES](_log_shade(trajectories[0].toy.loss(sphere).numpy()))
    surface = dict(facecolors=shade, rstride=1, cstride=1, shade=False, antialiased=False, rasterized=True)
    axes.plot_surface(*sphere.numpy().transpose(2, 0, 1), **surface)
    moving = []
    for trajectory, style in zip(trajectories, styles(trajectories), strict=True):
        at = 1.01 * trajectory.directions.numpy()  # above the surface
        (line,) = axes.plot(*at.T, linewidth=1.2, zorder=5, **style)
        moving.append(Moving(line, None, at))
    axes.plot(*(1.02 * on_sphere(torch.ones(2)).numpy()), marker="*", color="black", markersize=11, zorder=6)
    axes.view_init(elev=30, azim=-14)
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.set_axis_off()
    axes.set_title("direction on the sphere")
    return moving


def _shade_chart(axes: Axes, trajectories: Sequence[Trajectory]) -> None:
    x, y = torch.meshgrid(torch.linspace(-2.2, 2.2, 300), torch.linspace(-0.6, 2.35, 300), indexing="xy")
    shade = _log_shade(trajectories[0].toy.loss(on_sphere(torch.stack([x, y], -1))).numpy())
    axes.imshow(shade, extent=(-2.2, 2.2, -0.6, 2.35), origin="lower", cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    axes.plot(1, 1, marker="*", color="black", markersize=11, linestyle="")
    axes.annotate("least loss", (1, 1), (9, -4), textcoords="offset points", fontsize=9)
    _start(axes, (-2.0, 2.0))
    axes.set(title="the same, unrolled; darker: larger loss", xlabel="ψ (longitude)", ylabel="φ (latitude)")


def _log_shade(loss: Array) -> Array:
    """Logarithm of the loss, as a shade from white to half dark."""
    return 0.5 * np.asarray(LogNorm(1e-1, 3e3, clip=True)(loss))


def _start(axes: Axes, at: tuple[float, ...]) -> None:
    axes.plot(*at, marker="s", color="black", markersize=5, linestyle="")
    axes.annotate("start", (at[0], at[1]), (6, 5), textcoords="offset points", fontsize=9)


def _curves(loss: Axes, norm: Axes, trajectories: Sequence[Trajectory]) -> list[Moving]:
    """The lowest loss so far and the norm, against iterations."""
    iterations = np.arange(trajectories[0].toy.steps + 1)
    lowest = [np.minimum.accumulate(trajectory.losses.numpy()) for trajectory in trajectories]
    moving = _lines(loss, trajectories, [np.stack([iterations, y], 1) for y in lowest])
    moving += _lines(
        norm, trajectories, [np.stack([iterations, trajectory.norms.numpy()], 1) for trajectory in trajectories]
    )
    loss.set(title="lowest loss so far", yscale="log", xlabel="iteration")
    loss.set_ylim(bottom=max(1e-5, 0.5 * min(float(y[-1]) for y in lowest)))
    loss.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    norm.set(title="weight norm |w|", xlabel="iteration")
    for axes in (loss, norm):
        axes.grid(color="#e6e6e6", linewidth=0.6)
    return moving


def _lines(axes: Axes, trajectories: Sequence[Trajectory], points: Sequence[Array]) -> list[Moving]:
    """Each trajectory as a line with a dot at its end."""
    moving = []
    for trajectory, style, at in zip(trajectories, styles(trajectories), points, strict=True):
        (line,) = axes.plot(*at.T, linewidth=1.6, label=trajectory.name, **style)
        (dot,) = axes.plot(*at[-1:].T, marker="o", markersize=5, color=style["color"], linestyle="")
        moving.append(Moving(line, dot, at))
    return moving


def _legend(figure: Figure, moving: Sequence[Moving]) -> None:
    figure.legend(handles=[each.line for each in moving], loc="outside lower center", ncols=4, frameon=False)


def styles(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Line style of each trajectory: the paper's optimizers always alike, others in the colours left, in their order.

    Args:
        trajectories: The runs.

    Returns:
        Arguments for matplotlib's lines.
    """
    others = [trajectory.name for trajectory in trajectories if trajectory.name not in STYLES]
    return [
        STYLES.get(trajectory.name) or dict(color=OTHERS[others.index(trajectory.name) % len(OTHERS)], linestyle="-")
        for trajectory in trajectories
    ]

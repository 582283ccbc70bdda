"""Results on the toy problems as lines of text, beside the published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tangential.paper.toys.problems import on_chart
from tangential.paper.toys.published import FIGURE, LOSSES, NORMS, distance_from_figure
from tangential.paper.toys.trajectories import Trajectory

ITERATIONS = (40, 60, 80, 100, 150, 200, 300, 499)
WIDTH = 23


def circle_lines(trajectories: Sequence[Trajectory], *, beta: float) -> Iterator[str]:
    """Lines of loss and norm at the videos' iterations; `=` stands behind what a video prints the same.

    As in the videos, the loss is the one before the iteration's update and the norm the one after it.

    Args:
        trajectories: Runs on the circle.
        beta: The momentum they were run with.

    Yields:
        Lines of text.
    """
    widths = [max(WIDTH, len(trajectory.name) + 4) for trajectory in trajectories]
    columns = list(zip(trajectories, widths, strict=True))
    yield f"{'iteration':>9}" + "".join(f"{trajectory.name:>{width - 1}} " for trajectory, width in columns)
    for at in ITERATIONS:
        yield f"{at:>9}" + "".join(f"{_cell(trajectory, at, beta):>{width}}" for trajectory, width in columns)
    yield "loss / norm; = is what the authors' video prints"


def sphere_lines(trajectories: Sequence[Trajectory]) -> Iterator[str]:
    """Lines of where each run on the sphere ended, and its distance from the figure's.

    Args:
        trajectories: Runs on the sphere.

    Yields:
        Lines of text.
    """
    width = max([26, *(len(trajectory.name) + 2 for trajectory in trajectories)])
    heading = f"{'':<{width}}{'final (psi, phi)':>18}{'loss':>9}{'norm':>9}{'largest':>9}"
    yield f"{heading}   the figure: norm, largest, 40 steps"
    for trajectory in trajectories:
        psi, phi = on_chart(trajectory.points[-1]).tolist()
        yield (
            f"{trajectory.name:<{width}}{f'({psi:.3f}, {phi:.3f})':>18}{trajectory.losses[-1]:>9.4f}"
            f"{trajectory.norms[-1]:>9.3f}{trajectory.norms.max():>9.3f}   {_of_figure(trajectory)}"
        )


def _cell(trajectory: Trajectory, at: int, beta: float) -> str:
    loss, norm = f"{trajectory.losses[at]:.4f}", f"{trajectory.norms[at + 1]:.2f}"
    return f"{loss}{_mark(LOSSES, trajectory, at, beta, loss)} / {norm:>5}{_mark(NORMS, trajectory, at, beta, norm)}"


def _mark(
    published: dict[float, dict[int, dict[str, float]]], trajectory: Trajectory, at: int, beta: float, text: str
) -> str:
    """`=` or the published value where there is one."""
    value = published.get(beta, {}).get(at, {}).get(trajectory.name)
    if value is None:
        return " "
    return "=" if float(text) == value else f" (video {value})"


def _of_figure(trajectory: Trajectory) -> str:
    if trajectory.name not in FIGURE:
        return "not in the figure"
    figure = FIGURE[trajectory.name]
    return f"{figure.final_norm:.3f}, {figure.largest_norm:.3f}, the same to {distance_from_figure(trajectory):.0e}"

"""The toys as lines of text, beside what the authors' pictures show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tangential.paper.toys.problems import on_chart
from tangential.paper.toys.published import FIGURE, LOSSES, NORMS, distance_from_figure
from tangential.paper.toys.trajectories import Trail

ITERATIONS = (40, 60, 80, 100, 150, 200, 300, 499)
WIDTH = 23


def circle_lines(trails: Sequence[Trail], *, beta: float) -> Iterator[str]:
    """Write loss and norm at the videos' iterations; `=` stands behind what a video prints the same.

    As in the videos, the loss is the one before the iteration's update and the norm the one after it.

    Args:
        trails: Runs on the circle.
        beta: The momentum they were run with.

    Yields:
        Lines of text.
    """
    widths = [max(WIDTH, len(trail.name) + 4) for trail in trails]
    columns = list(zip(trails, widths, strict=True))
    yield f"{'iteration':>9}" + "".join(f"{trail.name:>{width - 1}} " for trail, width in columns)
    for at in ITERATIONS:
        yield f"{at:>9}" + "".join(f"{_cell(trail, at, beta):>{width}}" for trail, width in columns)
    yield "loss / norm; = is what the authors' video prints"


def sphere_lines(trails: Sequence[Trail]) -> Iterator[str]:
    """Write where each run on the sphere ended, and how far it is from the figure's.

    Args:
        trails: Runs on the sphere.

    Yields:
        Lines of text.
    """
    width = max([26, *(len(trail.name) + 2 for trail in trails)])
    heading = f"{'':<{width}}{'final (psi, phi)':>18}{'loss':>9}{'norm':>9}{'largest':>9}"
    yield f"{heading}   the figure: norm, largest, 40 steps"
    for trail in trails:
        psi, phi = on_chart(trail.points[-1]).tolist()
        yield (
            f"{trail.name:<{width}}{f'({psi:.3f}, {phi:.3f})':>18}{trail.losses[-1]:>9.4f}{trail.norms[-1]:>9.3f}"
            f"{trail.norms.max():>9.3f}   {_of_figure(trail)}"
        )


def _cell(trail: Trail, at: int, beta: float) -> str:
    loss, norm = f"{trail.losses[at]:.4f}", f"{trail.norms[at + 1]:.2f}"
    return f"{loss}{_mark(LOSSES, trail, at, beta, loss)} / {norm:>5}{_mark(NORMS, trail, at, beta, norm)}"


def _mark(published: dict[float, dict[int, dict[str, float]]], trail: Trail, at: int, beta: float, text: str) -> str:
    """`=` or the published value where there is one."""
    value = published.get(beta, {}).get(at, {}).get(trail.name)
    if value is None:
        return " "
    return "=" if float(text) == value else f" (video {value})"


def _of_figure(trail: Trail) -> str:
    if trail.name not in FIGURE:
        return "not in the figure"
    figure = FIGURE[trail.name]
    return f"{figure.final_norm:.3f}, {figure.largest_norm:.3f}, the same to {distance_from_figure(trail):.0e}"

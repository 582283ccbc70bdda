"""Animations of the toy problems, as GIF. Needs matplotlib and the Pillow it brings, of the extra `recipes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from tangential.paper.toys import drawing
from tangential.paper.toys.drawing import SETTINGS, draw, styles
from tangential.paper.toys.trajectories import Trajectory

MILLISECONDS = 80
"""Per frame."""

HOLD = 25
"""Frames for which the end stays."""


def save(trajectories: Sequence[Trajectory], file: Path, *, frames: int = 60, dpi: int = 64) -> Path:
    """Draw runs on one toy as an animation.

    Args:
        trajectories: The runs.
        file: Where to, a `.gif`.
        frames: How many.
        dpi: Pixels per inch.

    Returns:
        The file.

    Raises:
        ValueError: No run, runs on different toys, or another suffix.
        OSError: The file cannot be written.
    """
    if file.suffix != ".gif":
        raise ValueError(f"{file}: an animation is a .gif; drawing.save writes .png and .svg")
    pictures = list(_frames(trajectories, frames, dpi))
    palette = _palette(trajectories)
    first, *rest = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    times = [MILLISECONDS] * (len(pictures) - 1) + [HOLD * MILLISECONDS]
    first.save(file, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    return file


def save_all(trajectories: Sequence[Trajectory], folder: Path) -> list[Path]:
    """Draw runs on one toy as PNG, SVG and GIF.

    Args:
        trajectories: The runs.
        folder: Where to; the files are `toy-2d.png` and so on.

    Returns:
        The files.

    Raises:
        ValueError: No run, or runs on different toys.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"toy-{trajectories[0].toy.name}" if trajectories else "toy"
    pictures = [drawing.save(trajectories, folder / f"{name}{suffix}") for suffix in (".png", ".svg")]
    return [*pictures, save(trajectories, folder / f"{name}.gif")]


def _palette(trajectories: Sequence[Trajectory]) -> Image.Image:
    """Greys, and each line's colour blended with white and with the darkest shade; one palette for all frames."""
    greys = np.linspace(0, 255, 96)[:, None].repeat(3, 1)
    lines = [255 * np.array(to_rgb(style["color"])) for style in styles(trajectories)]
    blends = [line + (paper - line) * part for line in lines for paper in (255, 140) for part in np.linspace(0, 0.8, 8)]
    image = Image.new("P", (1, 1))
    room = 256 - len(greys)
    image.putpalette(np.vstack([greys, *blends[:room]]).round().astype(np.uint8).tobytes())
    return image


def _frames(trajectories: Sequence[Trajectory], frames: int, dpi: int) -> Iterator[Image.Image]:
    """Draw what stands still once, and the trajectories over it in every frame."""
    figure, moving = draw(trajectories)
    figure.set_dpi(dpi)
    canvas: Any = figure.canvas
    for artist in (artist for each in moving for artist in (each.line, each.dot) if artist is not None):
        artist.set_animated(True)
    with mpl.rc_context(SETTINGS):
        canvas.draw()
        still = canvas.copy_from_bbox(figure.bbox)
        for end in np.linspace(1, trajectories[0].toy.steps, frames).round().astype(int):
            canvas.restore_region(still)
            for artist in (artist for each in moving for artist in each.to(end)):
                artist.axes.draw_artist(artist)
            yield Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB")

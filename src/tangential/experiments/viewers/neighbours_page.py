"""The HTML page of nearest neighbours: one file, no network, every name escaped."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from torch import Tensor

from tangential.experiments.runs.files import replace_text
from tangential.experiments.tasks.retrieval import Retrieval
from tangential.experiments.templates import render
from tangential.experiments.viewers.neighbours import Retrieved

LOSSLESS = 64
"""Images of up to so many pixels a side are stored as PNG; larger ones are photographs and become JPEGs."""


def save(path: Path, title: str, task: Retrieval, found: Retrieved, *, only_wrong: bool = False) -> None:
    """Write the page.

    Args:
        path: The file.
        title: Name of the run.
        task: The task, whose test images are shown.
        found: Queries with their neighbours.
        only_wrong: Whether `found` has only queries whose nearest neighbour is wrong.

    Raises:
        OSError: The file cannot be written, or an image not be read.
    """
    images = task.data.load("test")
    numbers = {each.number for answer in found.shown for each in (answer, *answer.found)}
    text = render(
        "neighbours",
        title=title,
        answers=found.shown,
        pictures={number: data_uri(images[number][0]) for number in sorted(numbers)},
        scores=[(f"Recall@{name.rpartition('_')[2]}", f"{100 * value:.1f} %") for name, value in found.scores.items()],
        queries=found.queries,
        only_wrong=only_wrong,
    )
    replace_text(path, text)


def data_uri(image: Tensor) -> str:
    """Data URI of an image `(channels, height, width)` from 0 to 1.

    Examples:
        >>> import torch
        >>> data_uri(torch.zeros(1, 2, 2))[:22]
        'data:image/png;base64,'
    """
    from torchvision.transforms.functional import to_pil_image

    small = max(image.shape[-2:]) <= LOSSLESS
    file = BytesIO()
    to_pil_image((image.clamp(0, 1) * 255).round().byte()).save(file, "PNG" if small else "JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{b64encode(file.getvalue()).decode()}"

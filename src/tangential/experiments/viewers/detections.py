"""What a trained detector finds in pictures: the boxes, drawn and in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from tangential.experiments.data.boxes.annotated import AnnotatedImage, transformed
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.detection import Detection
from tangential.experiments.viewers.trained_model import trained

# Okabe and Ito's colours, which most colour-blind people can tell apart
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")


def detector(folder: RunFolder) -> tuple[Detection, nn.Module]:
    """Make a run's task and its network again; see `tangential.experiments.viewers.trained_model.trained`."""
    return trained(folder, Detection, "finds no boxes in pictures")


@torch.no_grad()
def found_in(picture: Any, task: Detection, model: nn.Module) -> dict[str, Tensor]:
    """Find things in one picture.

    Args:
        picture: Bytes `(3, height, width)`, as `tangential.experiments.data.images.decoding.read_image` gives them.
        task: Says how the network sees it.
        model: The network, in evaluation mode.

    Returns:
        `boxes` `(n, 4)` in the picture's pixels and inside it, `labels` `(n,)` from 1 and `scores` `(n,)`.
    """
    image, target = transformed(picture, [], task.view.transform("test"), training=False)
    (found,) = model(image[None])
    left, top, right, bottom = target["frame"][0]
    height, width = picture.shape[-2:]
    sides = torch.tensor([width, height, width, height])
    corner, span = torch.stack([left, top, left, top]), torch.stack([right - left, bottom - top] * 2)
    boxes = ((found["boxes"] - corner) / span * sides).clamp(min=0).minimum(sides)
    return found | {"boxes": boxes}


def drawn(
    picture: Any, found: dict[str, Tensor], categories: Sequence[str], *, truth: AnnotatedImage | None = None
) -> Image.Image:
    """Draw boxes on a picture, each with its class and score in per cent, and what was annotated as thin white lines.

    Args:
        picture: Bytes `(3, height, width)`.
        found: The boxes to draw, in its pixels.
        categories: The names of the classes, in the order of their labels.
        truth: The picture's annotations, if they are to be seen.
    """
    canvas = to_pil_image(picture)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 300))
    font = ImageFont.load_default(size=max(10, round(max(canvas.size) / 50)))
    for thing in truth.things if truth else ():
        pen.rectangle(thing.box, outline="white", width=1)
    for box, label, score in reversed(
        list(zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True))
    ):
        colour = _COLOURS[(label - 1) % len(_COLOURS)]
        pen.rectangle(box, outline=colour, width=line)
        text = f"{categories[label - 1]} {100 * score:.0f}"
        _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        x, y = min(box[0], canvas.width - right), max(box[1] - bottom, 0)
        pen.rectangle((x, y, x + right, y + bottom + 1), fill=colour)
        pen.text((x, y), text, fill="black", font=font)
    return canvas


def given(paths: Sequence[Path]) -> list[AnnotatedImage]:
    """The pictures of files and folders, without annotations."""
    files = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
            if not inside:
                raise ValueError(f"{path} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
            files += inside
        else:
            files.append(path)
    return [AnnotatedImage(file, (0, 0), ()) for file in files]


def tested(task: Detection, count: int) -> list[AnnotatedImage]:
    """The first pictures that a run was tested on."""
    pictures = getattr(task.data.load("test", task.view.transform("test")), "images", None)
    if pictures is None:
        raise ValueError("this run's pictures were generated; name some pictures")
    return pictures[:count]


def named(found: dict[str, Tensor], categories: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each box in JSON's own types: its `class`, `score` and `box`."""
    for box, label, score in zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True):
        yield {"class": categories[label - 1], "score": round(score, 4), "box": [round(edge, 2) for edge in box]}

"""Detections of a trained detector: boxes in pixels of an image, drawn on it, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from tangential.experiments.data.boxes.annotated import AnnotatedImage, transformed
from tangential.experiments.data.files import is_hidden
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.detection import Detection
from tangential.experiments.tasks.finite import all_finite
from tangential.experiments.viewers.trained_model import trained

# Okabe and Ito's palette, which is safe for most kinds of colour blindness
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")


def detector(folder: RunFolder) -> tuple[Detection, nn.Module]:
    """Task and network of a run; see `tangential.experiments.viewers.trained_model.trained`."""
    return trained(folder, Detection, "finds no boxes in images")


@torch.no_grad()
def detect(image: Any, task: Detection, model: nn.Module) -> dict[str, Tensor]:
    """Detections in one image.

    The network has the image in a frame of its own size, `target["frame"]`; its boxes are mapped back to the image.

    Args:
        image: Bytes `(3, height, width)`, as `tangential.experiments.data.images.decoding.read_image` returns them.
        task: Its transform of test images is applied.
        model: The network, in evaluation mode.

    Returns:
        `boxes` `(n, 4)` in pixels of the image and inside it, `labels` `(n,)` from 1 and `scores` `(n,)`.

    Raises:
        ValueError: A box or score is not finite.
    """
    framed, target = transformed(image, [], task.view.transform("test"), training=False)
    (found,) = model(framed[None])
    if not all_finite(found["scores"], found["boxes"]):
        raise ValueError("a detection is not finite; the run has diverged")
    left, top, right, bottom = target["frame"][0]
    height, width = image.shape[-2:]
    sides = torch.tensor([width, height, width, height])
    corner, span = torch.stack([left, top, left, top]), torch.stack([right - left, bottom - top] * 2)
    boxes = ((found["boxes"] - corner) / span * sides).clamp(min=0).minimum(sides)
    return found | {"boxes": boxes}


def draw_boxes(
    image: Any, found: dict[str, Tensor], categories: Sequence[str], *, truth: AnnotatedImage | None = None
) -> Image.Image:
    """Image with its detections, each with class and score in per cent, and annotated boxes as thin white lines.

    Args:
        image: Bytes `(3, height, width)`.
        found: Detections in its pixels.
        categories: Names of the classes, in the order of their labels.
        truth: Annotations of the image, to be drawn too.
    """
    canvas = to_pil_image(image)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 300))
    font = ImageFont.load_default(size=max(10, round(max(canvas.size) / 50)))
    for thing in truth.things if truth else ():
        pen.rectangle(thing.box, outline="white", width=1)
    # The best last, so that no box of a lower score covers it.
    for box, label, score in reversed(list(_rows(found))):
        colour = _COLOURS[(label - 1) % len(_COLOURS)]
        pen.rectangle(box, outline=colour, width=line)
        text = f"{categories[label - 1]} {100 * score:.0f}"
        _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        x, y = min(box[0], canvas.width - right), max(box[1] - bottom, 0)
        pen.rectangle((x, y, x + right, y + bottom + 1), fill=colour)
        pen.text((x, y), text, fill="black", font=font)
    return canvas


def as_json(found: dict[str, Tensor], categories: Sequence[str]) -> list[dict[str, Any]]:
    """Detections in JSON's own types: `class`, `score` and `box` of each."""
    return [
        {"class": categories[label - 1], "score": round(score, 4), "box": [round(edge, 2) for edge in box]}
        for box, label, score in _rows(found)
    ]


def images_in(paths: Sequence[Path]) -> list[AnnotatedImage]:
    """Images of files and folders, without annotations.

    Raises:
        ValueError: A folder without images.
    """
    files = []
    for path in paths:
        if path.is_dir():
            seen = (file for file in sorted(path.iterdir()) if not is_hidden(file.name))
            inside = [file for file in seen if file.suffix.lower() in IMAGE_SUFFIXES]
            if not inside:
                raise ValueError(f"{path} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
            files += inside
        else:
            files.append(path)
    return [AnnotatedImage(file, (0, 0), ()) for file in files]


def first_test_images(task: Detection, limit: int) -> list[AnnotatedImage]:
    """First images of a run's test set, with their annotations.

    Raises:
        ValueError: The run was trained on synthetic images, which are in no files.
    """
    images = getattr(task.data.load("test", task.view.transform("test")), "images", None)
    if images is None:
        raise ValueError("this run's pictures were generated; name some pictures")
    return images[:limit]


def output_paths(images: Sequence[AnnotatedImage], out: Path) -> list[Path]:
    """A PNG file in a folder for each image, by the image's name; images of one name are numbered.

    Raises:
        ValueError: A file is one of the images, which would be overwritten.

    Examples:
        >>> images = [AnnotatedImage(Path(name), (0, 0), ()) for name in ("a/1.jpg", "b/1.png", "1-2.png")]
        >>> [path.name for path in output_paths(images, Path("out"))]
        ['1.png', '1-2.png', '1-2-2.png']
    """
    taken: set[str] = set()
    paths = []
    for image in images:
        stem = image.path.stem
        numbered = (f"{stem}-{number}.png" for number in count(2))
        # Names that differ in case alone are one file on some systems.
        name = next(each for each in chain([f"{stem}.png"], numbered) if each.casefold() not in taken)
        taken.add(name.casefold())
        paths.append(out / name)
    sources = {image.path.resolve() for image in images}
    for path in paths:
        if path.resolve() in sources:
            raise ValueError(f"{path} is one of the images and would be overwritten; choose another --out")
    return paths


def _rows(found: dict[str, Tensor]) -> Iterator[tuple[list[float], int, float]]:
    """Box, label and score of each detection."""
    return zip(*(found[name].tolist() for name in ("boxes", "labels", "scores")), strict=True)

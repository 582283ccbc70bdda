"""Images with boxes around things: what the annotations of a folder come to, and the data set that decodes them.

Boxes are left, top, right, bottom, in pixels from the image's upper left corner; labels count from 1, as torchvision's
detectors want them, 0 being the background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from tangential.experiments.data.faults import DataError
from tangential.experiments.data.fingerprint import file_fingerprint
from tangential.experiments.data.images.decoding import read_image

Sample = tuple[Tensor, dict[str, Tensor]]
"""An image `(3, height, width)` from 0 to 1, and `boxes`, `labels`, in testing also `ignore`, of its things."""

Batch = tuple[Tensor, list[dict[str, Tensor]]]
"""Images `(batch, 3, height, width)` and what is in each."""


@dataclass(frozen=True)
class Thing:
    """One annotated object of an image.

    Args:
        label: Its class, from 1.
        box: Left, top, right, bottom.
        ignore: Whether finding it or missing it counts for nothing: Pascal's difficult objects and COCO's crowds.
    """

    label: int
    box: tuple[float, float, float, float]
    ignore: bool = False


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file and what is in it: height and width as the annotations state, and the things with an area."""

    path: Path
    size: tuple[int, int]
    things: tuple[Thing, ...]


def clipped(path: Path, size: tuple[int, int], things: Sequence[Thing]) -> tuple[AnnotatedImage, list[str]]:
    """Clip boxes at the image's border and drop those without an area, or with none inside the image.

    Args:
        path: The image.
        size: Its height and width.
        things: As annotated.

    Returns:
        The image, and a line on each thing that was dropped.

    Examples:
        >>> image, dropped = clipped(Path("a.jpg"), (10, 20), [Thing(1, (15, 5, 25, 9)), Thing(2, (3, 3, 3, 3))])
        >>> image.things, dropped
        ((Thing(label=1, box=(15, 5, 20, 9), ignore=False),), ['a.jpg: box (3, 3, 3, 3) of class 2 has no area'])
    """
    left_over, dropped = [], []
    for thing in things:
        left, top, right, bottom = thing.box
        box = (max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0]))
        if not np.isfinite(thing.box).all():
            why = "is not finite"
        elif right <= left or bottom <= top:
            why = "has no area"
        elif box[2] <= box[0] or box[3] <= box[1]:
            why = "lies outside the image"
        else:
            left_over.append(Thing(thing.label, box, thing.ignore))
            continue
        dropped.append(f"{path.name}: box {thing.box} of class {thing.label} {why}")
    return AnnotatedImage(path, size, tuple(left_over)), dropped


class AnnotatedImages(Dataset[Sample]):
    """Annotated images of a folder, decoded one by one as they are fetched.

    Args:
        images: The files and their things.
        view: Transforms an image and its boxes into what a network gets.
        dropped: A line on each annotation that was dropped.
        training: Whether things to ignore are left out; in testing they are there and marked.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        view: Callable[[Any, Any], Any],
        *,
        dropped: Sequence[str] = (),
        training: bool = False,
    ) -> None:
        self.images = list(images)
        self.dropped = tuple(dropped)
        self._view = view
        self._training = training

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        annotated = self.images[index]
        image = read_image(annotated.path)
        if image.shape[-2:] != annotated.size:
            raise DataError(
                f"{annotated.path} has {_sides(image.shape[-2:])} pixels, its annotation {_sides(annotated.size)}; "
                "get the two from the same place (a rotation by the EXIF orientation is not made)"
            )
        things = [thing for thing in annotated.things if not (self._training and thing.ignore)]
        return transformed(image, things, self._view, training=self._training)

    def fingerprint(self) -> str:
        """Hash of the image files and their boxes; see `tangential.experiments.data.fingerprint`."""
        return file_fingerprint(
            [image.path for image in self.images], [(image.size, image.things) for image in self.images]
        )


def transformed(
    image: tv_tensors.Image, things: Sequence[Thing], view: Callable[[Any, Any], Any], *, training: bool
) -> Sample:
    """Transform an image and its boxes, and make plain tensors of them.

    In testing the target has the `frame` too: where the whole image lies in what the network gets, `(1, 4)`.
    """
    height, width = image.shape[-2:]

    def boxes(corners: Any) -> Any:
        rows = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
        return tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=(height, width))  # type: ignore[call-overload]

    target = {
        "boxes": boxes([thing.box for thing in things]),
        "labels": torch.tensor([thing.label for thing in things], dtype=torch.int64),
    }
    if not training:
        target["ignore"] = torch.tensor([thing.ignore for thing in things], dtype=torch.bool)
        target["frame"] = boxes([0, 0, width, height])
    image, target = view(image, target)
    return image.as_subclass(Tensor), {name: each.as_subclass(Tensor) for name, each in target.items()}


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack images of one size; the numbers of their boxes differ and stay apart."""
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


def _sides(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]}"

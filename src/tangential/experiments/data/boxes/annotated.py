"""AnnotatedImages with boxes around things: what a folder says of them, and the data set that opens them.

Boxes are left, top, right, bottom, in pixels from the picture's upper left corner; labels count from 1, as
torchvision's detectors want them, 0 being the background.
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

from tangential.experiments.data.fingerprint import file_fingerprint
from tangential.experiments.data.images.decoding import read_image

Sample = tuple[Tensor, dict[str, Tensor]]
"""An image `(3, height, width)` from 0 to 1, and `boxes`, `labels`, in testing also `ignore`, of its things."""

Batch = tuple[Tensor, list[dict[str, Tensor]]]
"""Images `(batch, 3, height, width)` and what is in each."""


@dataclass(frozen=True)
class Thing:
    """One box of a picture.

    Args:
        label: Its class, from 1.
        box: Left, top, right, bottom.
        ignore: Whether finding it or missing it counts for nothing: Pascal's difficult things and COCO's crowds.
    """

    label: int
    box: tuple[float, float, float, float]
    ignore: bool = False


@dataclass(frozen=True)
class AnnotatedImage:
    """A picture file and what is in it: height and width as the annotations say, and the things with an area."""

    path: Path
    size: tuple[int, int]
    things: tuple[Thing, ...]


def tidied(path: Path, size: tuple[int, int], things: Sequence[Thing]) -> tuple[AnnotatedImage, list[str]]:
    """Cut boxes at the picture's border and drop those without an area, or with none inside the picture.

    Args:
        path: The picture.
        size: Its height and width.
        things: As annotated.

    Returns:
        The picture, and a line on each thing that was dropped.

    Example:
        >>> picture, dropped = tidied(Path("a.jpg"), (10, 20), [Thing(1, (15, 5, 25, 9)), Thing(2, (3, 3, 3, 3))])
        >>> picture.things, dropped
        ((Thing(label=1, box=(15, 5, 20, 9), ignore=False),), ['a.jpg: box (3, 3, 3, 3) of class 2 has no area'])
    """
    kept, dropped = [], []
    for thing in things:
        left, top, right, bottom = thing.box
        cut = (max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0]))
        if right <= left or bottom <= top:
            dropped.append(f"{path.name}: box {thing.box} of class {thing.label} has no area")
        elif cut[2] <= cut[0] or cut[3] <= cut[1]:
            dropped.append(f"{path.name}: box {thing.box} of class {thing.label} lies outside the picture")
        elif not np.isfinite(thing.box).all():
            dropped.append(f"{path.name}: box {thing.box} of class {thing.label} is not finite")
        else:
            kept.append(Thing(thing.label, cut, thing.ignore))
    return AnnotatedImage(path, size, tuple(kept)), dropped


class AnnotatedImages(Dataset[Sample]):
    """Pictures of a folder, opened one by one.

    Args:
        pictures: What to open.
        view: Turns an image and its boxes into what a network gets.
        dropped: A line on each annotation that was dropped.
        training: Whether things to ignore are left out; in testing they are kept and marked.
    """

    def __init__(
        self,
        pictures: Sequence[AnnotatedImage],
        view: Callable[[Any, Any], Any],
        *,
        dropped: Sequence[str] = (),
        training: bool = False,
    ) -> None:
        self.images = list(pictures)
        self.dropped = tuple(dropped)
        self._view = view
        self._training = training

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        picture = self.images[index]
        image = read_image(picture.path)
        if image.shape[-2:] != picture.size:
            raise ValueError(
                f"{picture.path} has {_sides(tuple(image.shape[-2:]))} pixels, its annotation {_sides(picture.size)}; "
                "get the two from the same place"
            )
        things = [thing for thing in picture.things if not (self._training and thing.ignore)]
        return transformed(image, things, self._view, training=self._training)

    def fingerprint(self) -> str:
        """Hash of the image files and their boxes; see `tangential.experiments.data.fingerprint`."""
        return file_fingerprint(
            [image.path for image in self.images], [(image.size, image.things) for image in self.images]
        )


def transformed(
    image: tv_tensors.Image, things: Sequence[Thing], view: Callable[[Any, Any], Any], *, training: bool
) -> Sample:
    """Take an image and its boxes through a view, and make plain tensors of them.

    In testing the target has the `frame` too: where the whole picture lies in what the network gets, `(1, 4)`.
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


def _sides(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"

"""Pictures with boxes around things: what a folder says of them, and the data set that opens them.

Boxes are left, top, right, bottom, in pixels from the picture's upper left corner; labels count from 1, as
torchvision's detectors want them, 0 being the background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

Split = Literal["train", "test"]

Sample = tuple[Tensor, dict[str, Tensor]]
"""An image `(3, height, width)` from 0 to 1, and `boxes`, `labels`, in testing also `ignore`, of its things."""

Batch = tuple[Tensor, list[dict[str, Tensor]]]
"""Images `(batch, 3, height, width)` and what is in each."""

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


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
class Picture:
    """A picture file and what is in it: height and width as the annotations say, and the things with an area."""

    path: Path
    size: tuple[int, int]
    things: tuple[Thing, ...]


def tidied(path: Path, size: tuple[int, int], things: Sequence[Thing]) -> tuple[Picture, list[str]]:
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
    return Picture(path, size, tuple(kept)), dropped


class Pictures(Dataset[Sample]):
    """Pictures of a folder, opened one by one.

    Args:
        pictures: What to open.
        view: Turns an image and its boxes into what a network gets.
        dropped: A line on each annotation that was dropped.
        training: Whether things to ignore are left out; in testing they are kept and marked.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        view: Callable[[Any, Any], Any],
        *,
        dropped: Sequence[str] = (),
        training: bool = False,
    ) -> None:
        self.pictures = list(pictures)
        self.dropped = tuple(dropped)
        self._view = view
        self._training = training

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self.pictures[index]
        image = read_picture(picture.path)
        if image.shape[-2:] != picture.size:
            raise ValueError(
                f"{picture.path} has {_sides(tuple(image.shape[-2:]))} pixels, its annotation {_sides(picture.size)}; "
                "get the two from the same place"
            )
        things = [thing for thing in picture.things if not (self._training and thing.ignore)]
        return viewed(image, things, self._view, training=self._training)


def viewed(
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


def collated(samples: Sequence[Sample]) -> Batch:
    """Stack images of one size; the numbers of their boxes differ and stay apart."""
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


def read_picture(path: Path) -> tv_tensors.Image:
    """Read a picture of any kind (grey, CMYK, palette, 16 bits) as red, green and blue bytes `(3, height, width)`.

    Transparency is dropped, and a rotation that only the camera's notes ask for is not made: annotations know none.

    Raises:
        ValueError: The file is not a picture, is cut, or cannot be read.
    """
    try:
        with Image.open(path) as file:
            return functional.to_image(_rgb(file))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a picture ({why}); get it again, or take it out") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would cut 16 bits off at 255; all larger values would be white
        levels = np.asarray(image, dtype=np.float64)
        bits = 8 if levels.max(initial=0) <= 255 else 16
        image = Image.fromarray((levels.clip(0, 2**bits - 1) / (2**bits - 1) * 255).round().astype(np.uint8))
    return image.convert("RGB")


def _sides(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"

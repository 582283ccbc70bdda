"""Transforms of annotated images: to one size, and in training augmented (zoom-out, crops, flips, colours).

All randomness comes from torch's generators, so a resumed run gets what an uninterrupted one would have got.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tangential.experiments.task import Split

# Principal colours of ImageNet's pixels, red, green, blue (Krizhevsky et al., 2012): variances' roots and directions
_COLOURS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_SPREAD = torch.tensor([0.2175, 0.0188, 0.0045])
_GREY = {tv_tensors.Image: (124.0, 116.0, 104.0), "others": 0}


@dataclass(frozen=True, kw_only=True)
class StretchedView:
    """SSD's transforms: every image is stretched to a square.

    In training it is, by chance, put on a larger ground (zoom-out), cut so that some box stays in sight (IoU crop),
    mirrored, and changed in brightness, contrast, saturation and hue, the last after resizing to save time.

    Args:
        size: Side of the square, in pixels.
        zoom_out: Chance of the larger ground, up to four times a side.
        crop: Whether to cut.
        photometric: Chance of each change of colours.

    Raises:
        ValueError: A size below one, or a chance outside 0 to 1.
    """

    size: int = 300
    zoom_out: float = 0.5
    crop: bool = True
    photometric: float = 0.5

    def __post_init__(self) -> None:
        _check(self.size, zoom_out=self.zoom_out, photometric=self.photometric)

    def transform(self, split: Split) -> v2.Transform:
        """Transform of an image and its boxes into what the network gets."""
        resize = v2.Resize((self.size, self.size), antialias=True)
        if split == "test":
            return v2.Compose([resize, v2.ToDtype(torch.float32, scale=True)])
        cuts = [v2.RandomIoUCrop()] if self.crop else []
        return v2.Compose(
            [
                v2.RandomZoomOut(fill=_GREY, p=self.zoom_out),  # type: ignore[arg-type]
                *cuts,
                resize,
                v2.RandomHorizontalFlip(0.5),
                v2.RandomPhotometricDistort(p=self.photometric),
                v2.ClampBoundingBoxes(),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def batch_size(self, split: Split, wanted: int) -> int:
        """Number of images in a batch of a split."""
        return wanted

    def smoke(self) -> StretchedView:
        """The same, as an SSD is made for one size."""
        return self


@dataclass(frozen=True, kw_only=True)
class SquareView:
    """CenterNet's transforms: a square around some point, nothing stretched.

    In training the square is a random multiple of the image's longer side about a random centre, mirrored by chance,
    with jittered colours and lighting. In testing the image keeps its size and is padded to the next multiple of 32
    beyond it, one image a batch; or it is fitted into the square.

    Args:
        size: Side of the square, in pixels: a multiple of 32.
        least_scale: Least side of the training square, as a share of the image's longer side.
        most_scale: Largest side, likewise. All tenths between are equally likely.
        border: How near to the border the centre may come, in the image's pixels; less in small images.
        jitter: How far brightness, contrast and saturation may change, as a share.
        lighting: Standard deviation of the change along the principal colours, as a share of their spread.
        keep_size: Whether images keep their size in testing.

    Raises:
        ValueError: A size that is no multiple of 32, a share out of range or scales in the wrong order.
    """

    size: int = 512
    least_scale: float = 0.6
    most_scale: float = 1.3
    border: int = 128
    jitter: float = 0.4
    lighting: float = 0.1
    keep_size: bool = True

    def __post_init__(self) -> None:
        _check(self.size, jitter=self.jitter, lighting=self.lighting)
        if self.size % 32:
            raise ValueError(f"view.size={self.size}: must be a multiple of 32")
        if not 0 < self.least_scale <= self.most_scale:
            raise ValueError(
                f"view.least_scale={self.least_scale}, view.most_scale={self.most_scale}: must be above 0 and in order"
            )
        if self.border < 0:
            raise ValueError(f"view.border={self.border}: must be at least 0")

    def transform(self, split: Split) -> v2.Transform:
        """Transform of an image and its boxes into what the network gets."""
        if split == "test":
            fit = PadToMultiple() if self.keep_size else FitSquare(self.size)
            return v2.Compose([fit, v2.ToDtype(torch.float32, scale=True)])
        return v2.Compose(
            [
                RandomSquare(self),
                v2.RandomHorizontalFlip(0.5),
                v2.ClampBoundingBoxes(),
                v2.SanitizeBoundingBoxes(),
                v2.ColorJitter(self.jitter, self.jitter, self.jitter),
                v2.ToDtype(torch.float32, scale=True),
                Lighting(self.lighting),
            ]
        )

    def batch_size(self, split: Split, wanted: int) -> int:
        """Number of images in a batch of a split: one if they keep their sizes."""
        return 1 if split == "test" and self.keep_size else wanted

    def smoke(self) -> SquareView:
        """The same with small squares, for a run of seconds."""
        return replace(self, size=min(self.size, 128))


class RandomSquare(v2.Transform):
    """Cut a random square, black where it leaves the image, and resize it."""

    def __init__(self, view: SquareView) -> None:
        super().__init__()
        self._view = view

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the square."""
        height, width = v2.query_size(flat_inputs)
        tenths = round((self._view.most_scale - self._view.least_scale) * 10)
        scale = self._view.least_scale + int(torch.randint(0, tenths + 1, ())) / 10
        side = max(1, round(scale * max(height, width)))
        x, y = _between(width, self._view.border), _between(height, self._view.border)
        return {"top": y - side // 2, "left": x - side // 2, "height": side, "width": side}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut and resize an image or its boxes."""
        return functional.resized_crop(inpt, **params, size=[self._view.size] * 2, antialias=True)


class PadToMultiple(v2.Transform):
    """Pad a image on all sides with black to the next larger multiple of 32."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Padding of each side."""
        height, width = v2.query_size(flat_inputs)
        return {"padding": _around(width, (width | 31) + 1, height, (height | 31) + 1)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad an image or its boxes."""
        return functional.pad(inpt, **params)


class FitSquare(v2.Transform):
    """Resize a image so that its longer side fits a square, and pad the shorter one with black."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """New size of the image and padding of each side."""
        height, width = v2.query_size(flat_inputs)
        scale = self._size / max(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        return {"size": [height, width], "padding": _around(width, self._size, height, self._size)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize and pad an image or its boxes."""
        return functional.pad(functional.resize(inpt, params["size"], antialias=True), params["padding"])


class Lighting(v2.Transform):
    """Shift a float image along the principal colours of ImageNet by a random amount."""

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, spread: float) -> None:
        super().__init__()
        self._spread = spread

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the shift of red, green and blue."""
        return {"shift": _COLOURS @ (torch.randn(3) * self._spread * _SPREAD)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Shift an image."""
        return tv_tensors.Image(inpt.as_subclass(Tensor) + params["shift"][:, None, None])


def _between(side: int, border: int) -> int:
    """A random position at least a border, halved until it fits, away from both ends."""
    while border and side <= 2 * border:
        border //= 2
    return int(torch.randint(border, max(side - border, border + 1), ()))


def _around(width: int, new_width: int, height: int, new_height: int) -> list[int]:
    """Left, top, right and bottom padding that centres a image."""
    left, top = (new_width - width) // 2, (new_height - height) // 2
    return [left, top, new_width - width - left, new_height - height - top]


def _check(size: int, **chances: float) -> None:
    if size < 1:
        raise ValueError(f"view.size={size}: must be at least 1")
    for name, value in chances.items():
        if not 0 <= value <= 1:
            raise ValueError(f"view.{name}={value}: must be from 0 to 1")

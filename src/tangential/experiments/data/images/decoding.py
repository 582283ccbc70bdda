"""The reader of image files, one for all data sets: files of any kind become red, green and blue bytes.

- Grey, palette, CMYK and bilevel images are converted; transparency is dropped.
- Integers of 16 bits are scaled by the depth that the file states: white is 65535, whatever the brightest pixel is.
- Floats are taken to go from 0 to 1. Others, and integers of 32 bits, have no white that a file could state; they are
  refused by name.
- A rotation that only the EXIF orientation asks for is made in no data set: annotations of boxes know none, and the
  published numbers of classification come from readers that make none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tangential.experiments.data.faults import DataError, no_damage, reason

if TYPE_CHECKING:  # torchvision costs a second to import, and most tasks do without
    from torchvision.tv_tensors import Image as ImageTensor

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of names that count as images, in lower case; in a folder any case will do."""


def open_image(path: Path | str) -> Image.Image:
    """Decode an image file of any kind into an RGB image of Pillow's.

    Raises:
        DataError: The file is not an image, is damaged or cut, or cannot be opened; or its values have no known white.
    """
    try:
        with Image.open(path) as file:
            return _rgb(file)
    except Exception as error:  # a damaged file fails in as many ways as Pillow's decoders have
        if isinstance(error, MemoryError):
            raise
        advice = "" if no_damage(error) else "; get it again, or take it out"
        raise DataError(f"{path} cannot be read as an image ({_why(error, path)}){advice}") from error


def read_image(path: Path | str) -> ImageTensor:
    """Decode an image file of any kind into bytes `(3, height, width)`; see `open_image`."""
    from torchvision.transforms.v2.functional import to_image

    return to_image(open_image(path))


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width of an image file, from its header.

    Raises:
        DataError: The file is not an image, or cannot be opened.
    """
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except Exception as error:
        raise DataError(f"{path} cannot be read as an image ({_why(error, path)})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        levels = np.asarray(image)
        if not (levels.min(initial=0) >= 0 and levels.max(initial=0) <= 1):  # so written, NaN is refused
            raise ValueError("its floats are not all from 0 to 1; convert it to 8 or 16 bits")
        return _grey(levels.astype(np.float64))
    if image.mode.startswith("I"):
        if image.mode == "I" and image.format not in ("PNG", "PPM"):  # those two have 16 bits at most
            raise ValueError("its integers have 32 bits, of which none is known to be white; convert it to 8 or 16")
        return _grey(np.asarray(image).astype(np.float64).clip(0, 65535) / 65535)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _grey(shares: np.ndarray) -> Image.Image:
    """Grey from 0 to 1, `(height, width)`, as an RGB image."""
    return Image.fromarray((shares * 255).round().astype(np.uint8)).convert("RGB")


def _why(error: Exception, path: Path | str) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "of no known kind" if Path(path).stat().st_size else "empty"
    return reason(error)

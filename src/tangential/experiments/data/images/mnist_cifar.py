"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, as torchvision stores them or as their own files."""

from __future__ import annotations

import gzip
import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError, no_damage, reason
from tangential.experiments.data.images.in_memory import InMemory
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import VARIABLE, data_folder, locate
from tangential.experiments.task import Split

_STEMS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, kw_only=True)
class Mnist(InMemory):
    """60,000 and 10,000 handwritten digits, 28 x 28 grey pixels.

    Args:
        root: The folder of the data sets, in which the four IDX files lie under `mnist` or `MNIST/raw`, packed (`.gz`)
            or not; None for the one that `TANGENTIAL_DATA` names.
        download: Let torchvision fetch it into that folder if it is not there.
        limit: See `InMemory`, as for the rest.
    """

    root: str | None = None
    download: bool = False

    channels = 1
    classes = 10
    mean = (0.1307,)
    std = (0.3081,)
    _folders: ClassVar[tuple[str, ...]] = ("mnist", "MNIST/raw")
    _maker: ClassVar[str] = "MNIST"
    _get: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist, or with task.data.download=true,"
    _size: ClassVar[str] = "12 MB"

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Read one split as a whole."""
        if self.download:
            _download(self._maker, self.root, split)
        (images, pixels), (labels, classes) = (
            self._file(f"{_STEMS[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
        )
        if pixels.dim() != 3:
            raise DataError(f"{images} has the shape {tuple(pixels.shape)}, which are no grey images; get it again")
        if classes.dim() != 1 or len(classes) != len(pixels):
            raise DataError(
                f"{labels} has labels of the shape {tuple(classes.shape)} for the {len(pixels)} images of {images}; "
                "get the two from the same place"
            )
        if len(classes) and int(classes.max()) >= self.classes:
            raise DataError(f"{labels} has the label {int(classes.max())}; there are {self.classes} classes from 0")
        return pixels[:, None], classes.long()

    def smoke(self) -> Gratings:
        """16 synthetic images of the same size."""
        return Gratings(channels=1, side=28, mean=self.mean, std=self.std, padding=self.padding, flip=self.flip)

    def _file(self, name: str) -> tuple[Path, Tensor]:
        names = [f"{folder}/{name}{ending}" for folder in self._folders for ending in (".gz", "")]
        path = locate(self.root, *names, get=self._get, size=self._size)
        return path, read_idx(path, file_state(path)[1:])


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Mnist):
    """60,000 and 10,000 pieces of clothing, 28 x 28 grey pixels; stored as MNIST is, see there."""

    mean = (0.2860,)
    std = (0.3530,)
    _folders = ("fashion-mnist", "FashionMNIST/raw")
    _maker = "FashionMNIST"
    _get = "https://github.com/zalandoresearch/fashion-mnist, or with task.data.download=true,"
    _size = "30 MB"


@dataclass(frozen=True, kw_only=True)
class Cifar10(InMemory):
    """50,000 and 10,000 photographs of ten kinds of things, 32 x 32 pixels in colour.

    Args:
        root: The folder of the data sets, in which `cifar-10-batches-py` lies (`cifar-100-python` for `Cifar100`); None
            for the one that `TANGENTIAL_DATA` names.
        download: Let torchvision fetch it into that folder if it is not there.
        limit: See `InMemory`, as for the rest.
    """

    root: str | None = None
    download: bool = False

    channels = 3
    classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    _folder: ClassVar[str] = "cifar-10-batches-py"
    _maker: ClassVar[str] = "CIFAR10"
    _size: ClassVar[str] = "170 MB"

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Read one split as a whole."""
        if self.download:
            _download(self._maker, self.root, split)
        get = "https://www.cs.toronto.edu/~kriz/cifar.html, or with task.data.download=true,"
        folder = locate(self.root, self._folder, get=get, size=self._size)
        states = tuple(file_state(path) for path in sorted(folder.glob("*")))
        return _cifar(self._maker, folder.parent, split, states)

    def smoke(self) -> Gratings:
        """16 synthetic images of the same size."""
        return Gratings(side=32, mean=self.mean, std=self.std, padding=self.padding, flip=self.flip)


@dataclass(frozen=True, kw_only=True)
class Cifar100(Cifar10):
    """The same with 100 classes; see there."""

    classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    _folder = "cifar-100-python"
    _maker = "CIFAR100"


@lru_cache(maxsize=8)
def read_idx(path: Path, state: tuple[int, ...] = ()) -> Tensor:
    """Read a file of bytes in MNIST's own format, packed or not.

    Args:
        path: The file.
        state: Its size and time: a file that was replaced is read again.

    Returns:
        Bytes of the shape that the file states.

    Raises:
        DataError: It is no such file, or it is damaged or cut.
        OSError: It cannot be opened.
    """
    try:
        # gzip compares the checksum, as all is read
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except Exception as error:  # EOFError, BadGzipFile, zlib.error, struct.error
        if no_damage(error):
            raise
        raise DataError(f"{path} cannot be unpacked ({reason(error)}); get it again") from error
    dimensions = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0  # 8: unsigned bytes
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)] if len(data) >= start else []
    if not shape or len(data) != start + math.prod(shape):
        raise DataError(f"{path} is not a whole IDX file of bytes; get it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).copy()).reshape(shape)


@lru_cache(maxsize=2)
def _cifar(maker: str, folder: Path, split: Split, states: Any) -> tuple[Tensor, Tensor]:
    """Both splits are compared with the published checksums by torchvision; `states` tells whether a file changed."""
    try:
        found = _torchvision(maker)(folder, train=split == "train")
    except Exception as error:  # RuntimeError of a wrong checksum; what pickle raises
        if no_damage(error):
            raise
        raise DataError(f"the CIFAR files in {folder} are broken ({reason(error)}); get them again") from error
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


def _download(maker: str, root: str | None, split: Split) -> None:
    folder = data_folder(root)
    if folder is None:
        raise ValueError(f"no folder to download into; name one with task.data.root=FOLDER or {VARIABLE}")
    try:
        _torchvision(maker)(str(folder), train=split == "train", download=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(f"{maker} cannot be downloaded into {folder} ({reason(error)})") from error


def _torchvision(name: str) -> Any:
    """A data set of torchvision, which costs a second to import, and most tasks do without."""
    return getattr(importlib.import_module("torchvision.datasets"), name)

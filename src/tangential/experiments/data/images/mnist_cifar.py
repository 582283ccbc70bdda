"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, as torchvision stores them or as their own files."""

from __future__ import annotations

import gzip
import importlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tangential.experiments.data.images.in_memory import InMemory
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import VARIABLE, locate
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
            _torchvision(self._maker)(_home(self.root), train=split == "train", download=True)
        return self._file(f"{_STEMS[split]}-images-idx3-ubyte")[:, None], self._file(
            f"{_STEMS[split]}-labels-idx1-ubyte"
        ).long()

    def smoke(self) -> Gratings:
        """Take 16 generated images of the same size."""
        return Gratings(channels=1, side=28, mean=self.mean, std=self.std, padding=self.padding, flip=self.flip)

    def _file(self, name: str) -> Tensor:
        names = [f"{folder}/{name}{ending}" for folder in self._folders for ending in (".gz", "")]
        path = locate(self.root, *names, get=self._get, size=self._size)
        return read_idx(path, path.stat().st_mtime_ns)


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
            _torchvision(self._maker)(_home(self.root), train=split == "train", download=True)
        get = "https://www.cs.toronto.edu/~kriz/cifar.html, or with task.data.download=true,"
        return _cifar(self._maker, locate(self.root, self._folder, get=get, size=self._size).parent, split)

    def smoke(self) -> Gratings:
        """Take 16 generated images of the same size."""
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
def read_idx(path: Path, changed: int = 0) -> Tensor:
    """Read a file of bytes in MNIST's own format, packed or not.

    Args:
        path: The file.
        changed: When it was changed last: a file that was replaced is read again.

    Returns:
        Bytes of the shape that the file states.

    Raises:
        ValueError: It is no such file, or it is cut.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}); get it again") from error
    dimensions = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0  # 8: unsigned bytes
    shape = np.frombuffer(data, ">i4", dimensions, 4).tolist() if len(data) >= 4 + 4 * dimensions else []
    if not shape or len(data) != 4 + 4 * dimensions + int(np.prod(shape)):
        raise ValueError(f"{path} is not a whole IDX file of bytes; get it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).copy()).reshape(shape)


@lru_cache(maxsize=2)
def _cifar(maker: str, folder: Path, split: Split) -> tuple[Tensor, Tensor]:
    try:
        found = _torchvision(maker)(folder, train=split == "train")
    except RuntimeError as error:
        raise ValueError(f"the CIFAR files in {folder} are broken ({error}); get them again") from error
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


def _torchvision(name: str) -> Any:
    """A data set of torchvision, which costs a second to import, and most tasks do without."""
    return getattr(importlib.import_module("torchvision.datasets"), name)


def _home(root: str | None) -> str:
    """Where a download goes."""
    folder = root or os.environ.get(VARIABLE)
    if folder is None:
        raise ValueError(f"no folder to download into; name one with task.data.root=FOLDER or {VARIABLE}")
    return folder

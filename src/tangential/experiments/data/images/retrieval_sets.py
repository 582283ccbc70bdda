"""The data sets of retrieval: birds, cars, products and clothes, classes of training and test disjoint.

CUB-200-2011, Cars-196 and Stanford Online Products are listed by pytorch-metric-learning, with the usual splits: the
first half of the classes to train on, the second to test. In-Shop has queries and a gallery of its own.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch

from tangential.experiments.data.images.folders import MEAN, STD, Files, cut_at_random, cut_from_centre
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.task import Split

Listing = list[tuple[str, str]]
"""Path and class of each image."""


@dataclass(frozen=True, kw_only=True)
class Gallery(ABC):
    """Image files of any size: a random part of them in training, the centre in testing, as in `Folder`.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        side: Height and width of what the net sees, in pixels.
        resize: Shorter side of a test image before its centre is cut out.
    """

    root: str | None = None
    side: int = 224
    resize: int = 256

    channels = 3
    mean = MEAN
    std = STD

    @abstractmethod
    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """List one split: path and class of each image, and which are queries, or nothing if all are."""

    @property
    def classes(self) -> int:
        """How many classes there are to train on."""
        return len({name for _, name in self.listed("train")[0]})

    def load(self, split: Split) -> Files:
        """Open one split; classes are numbered from 0 in the order of their names."""
        listing, queries = self.listed(split)
        numbers = {name: number for number, name in enumerate(sorted({name for _, name in listing}, key=_natural))}
        transform = cut_at_random(self.side) if split == "train" else cut_from_centre(self.side, self.resize)
        marks = [torch.tensor(queries)] if queries else []
        return Files([(path, numbers[name]) for path, name in listing], transform, *marks)

    def smoke(self) -> Gratings:
        """Take 16 small generated images of four classes."""
        return Gratings(side=32, classes=4, mean=self.mean, std=self.std, flip=True)


@dataclass(frozen=True, kw_only=True)
class _Listed(Gallery):
    """A data set that pytorch-metric-learning lists."""

    _maker: ClassVar[str]
    _places: ClassVar[tuple[str, ...]]
    _inside: ClassVar[bool]  # whether the library wants the folder itself, or the one it lies in
    _get: ClassVar[str]
    _size: ClassVar[str]

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """List one split."""
        path = locate(self.root, *self._places, get=self._get, size=self._size)
        if path.is_file():
            path = unpacked(path)
        elif not self._inside:
            path = path.parent
        return _by_library(self._maker, path, split), []


@dataclass(frozen=True, kw_only=True)
class Cub(_Listed):
    """11,788 photographs of 200 kinds of birds, in `CUB_200_2011` or `CUB_200_2011.tgz`; 100 kinds to train on."""

    _maker = "CUB"
    _places = ("CUB_200_2011", "CUB_200_2011.tgz")
    _inside = False
    _get = "https://data.caltech.edu/records/65de6-vp158"
    _size = "1.1 GB"


@dataclass(frozen=True, kw_only=True)
class Cars196(_Listed):
    """16,185 photographs of 196 kinds of cars, 98 to train on.

    They are in `cars196`: either `car_ims` with `cars_annos.mat`, as first published, or `car_data`, `names.csv` and
    `anno_*.csv`, as they can still be had.
    """

    _maker = "Cars196"
    _places = ("cars196", "stanford-car-dataset-by-classes-folder.zip")
    _inside = True
    _get = "https://www.kaggle.com/datasets/jutrera/stanford-car-dataset-by-classes-folder, unpacked to cars196/"
    _size = "2 GB"

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """List one split."""
        path = locate(self.root, *self._places, get=self._get, size=self._size)
        table = path / "cars_annos.mat"
        return (_by_table(table, split), []) if table.is_file() else super().listed(split)


@dataclass(frozen=True, kw_only=True)
class OnlineProducts(_Listed):
    """120,053 photographs of 22,634 products, in `Stanford_Online_Products`; 11,318 products to train on."""

    _maker = "StanfordOnlineProducts"
    _places = ("Stanford_Online_Products", "Stanford_Online_Products.zip")
    _inside = False
    _get = "https://cvgl.stanford.edu/projects/lifted_struct"
    _size = "3 GB"


@dataclass(frozen=True, kw_only=True)
class InShop(Gallery):
    """52,712 photographs of 7,982 clothes; 3,997 to train on, 14,218 queries and a gallery of 12,612 to test with.

    They are in `Inshop_Clothes`, with the folders `Img` and `Eval` of "In-shop Clothes Retrieval Benchmark", `Img`
    unpacked.
    """

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """List one split; in testing the queries first."""
        folder = locate(
            self.root,
            *("Inshop_Clothes", "In-shop Clothes Retrieval Benchmark"),
            get="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html (in-shop clothes, Img and Eval)",
            size="8 GB",
        )
        table = folder / "Eval" / "list_eval_partition.txt"
        if not table.is_file():
            raise ValueError(f"{folder} has no Eval/list_eval_partition.txt; get the folder Eval too")
        parts = _partition(table)
        if split == "train":
            return parts["train"], []
        queries, gallery = parts["query"], parts["gallery"]
        return queries + gallery, [True] * len(queries) + [False] * len(gallery)


@lru_cache(maxsize=8)
def _partition(table: Path) -> dict[str, Listing]:
    """Read In-Shop's own table: a count, a heading, then path, item and part of each image."""
    parts: dict[str, Listing] = {"train": [], "query": [], "gallery": []}
    lines = table.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[2:], start=3):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[2] not in parts:
            raise ValueError(f"{table}, line {number}: {line!r:.80} is not a path, an item and train, query or gallery")
        parts[words[2]].append((words[0], words[1]))
    found = sum(map(len, parts.values()))
    if not all(parts.values()) or lines[0].strip() != str(found):
        raise ValueError(f"{table} announces {lines[0].strip()!r:.20} images and has {found}; get it again")
    home = table.parent.parent
    home = home / "Img" if (home / "Img" / parts["train"][0][0]).exists() else home
    return {part: [(str(home / path), item) for path, item in listing] for part, listing in parts.items()}


@lru_cache(maxsize=8)
def _by_library(maker: str, folder: Path, split: Split) -> Listing:
    try:
        datasets: Any = importlib.import_module("pytorch_metric_learning.datasets")
    except ModuleNotFoundError as error:
        raise ValueError("retrieval needs pytorch-metric-learning: pip install 'tangential[retrieval]'") from error
    try:
        found = getattr(datasets, maker)(root=str(folder), split=split)
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{folder} is not laid out as {maker} is published ({error}); get it again") from error
    return _checked(list(zip(found.paths, map(str, found.labels), strict=True)), folder)


@lru_cache(maxsize=8)
def _by_table(table: Path, split: Split) -> Listing:
    """Read the table of Cars-196 as first published; its own split into training and test is another one."""
    from scipy.io import loadmat  # comes with scikit-learn

    try:
        rows = loadmat(str(table), squeeze_me=True)["annotations"]
        found = [(str(row["relative_im_path"]), int(row["class"])) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{table} is not the table of Cars-196 ({error}); get it again") from error
    chosen = [(str(table.parent / path), str(kind)) for path, kind in found if (kind <= 98) == (split == "train")]
    return _checked(chosen, table)


def _checked(listing: Listing, where: Path) -> Listing:
    if not listing:
        raise ValueError(f"{where} lists no images; get it again")
    if not Path(listing[0][0]).is_file():
        raise ValueError(f"{where} lists {listing[0][0]}, which is not there; get the images too")
    return listing


def _natural(name: str) -> tuple[int, str]:
    """Numbers in the order of their values."""
    return (int(name), "") if name.isdigit() else (-1, name)

"""The data sets of retrieval: birds, cars, products and clothes, classes of training and test disjoint.

CUB-200-2011, Cars-196 and Stanford Online Products have the usual splits: the first half of the classes to train on,
the second to test. In-Shop has queries and a gallery of its own. Their tables are read in `retrieval_tables`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError
from tangential.experiments.data.images.folders import MEAN, STD, Files, cut_at_random, cut_from_centre
from tangential.experiments.data.images.retrieval_tables import (
    Listing,
    birds,
    cars_as_published,
    cars_by_classes,
    clothes,
    natural,
    products,
)
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.task import Split


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
        """Path and class of each image of a split, and which are queries, or nothing if all are."""

    @property
    def classes(self) -> int:
        """Number of classes to train on."""
        return len({name for _, name in self.listed("train")[0]})

    def load(self, split: Split) -> Files:
        """Open one split; classes are numbered from 0 in the order of their names."""
        listing, queries = self.listed(split)
        numbers = {name: number for number, name in enumerate(sorted({name for _, name in listing}, key=natural))}
        transform = cut_at_random(self.side) if split == "train" else cut_from_centre(self.side, self.resize)
        marks = [torch.tensor(queries)] if queries else []
        return Files([(path, numbers[name]) for path, name in listing], transform, *marks)

    def smoke(self) -> Gratings:
        """16 small synthetic images of four classes."""
        return Gratings(side=32, classes=4, mean=self.mean, std=self.std, flip=True)


@dataclass(frozen=True, kw_only=True)
class Cub(Gallery):
    """11,788 photographs of 200 kinds of birds, in `CUB_200_2011` or `CUB_200_2011.tgz`; 100 kinds to train on."""

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """Path and class of each image of a split."""
        get = "https://data.caltech.edu/records/65de6-vp158"
        path = locate(self.root, "CUB_200_2011", "CUB_200_2011.tgz", get=get, size="1.1 GB")
        folder = path if path.is_dir() else unpacked(path) / "CUB_200_2011"
        return _half(birds(folder, _states(folder, "images.txt", "image_class_labels.txt")), 100, split), []


@dataclass(frozen=True, kw_only=True)
class Cars196(Gallery):
    """16,185 photographs of 196 kinds of cars, 98 to train on.

    They are in `cars196`: either `car_ims` with `cars_annos.mat`, as first published, or `car_data`, `names.csv` and
    `anno_*.csv`, as they can still be had.
    """

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """Path and class of each image of a split; the split into training and test of the tables is another one."""
        packed = "stanford-car-dataset-by-classes-folder"
        get = f"https://www.kaggle.com/datasets/jutrera/{packed}, unpacked to cars196/"
        path = locate(self.root, "cars196", f"{packed}.zip", get=get, size="2 GB")
        folder = path if path.is_dir() else unpacked(path)
        if (folder / "cars_annos.mat").is_file():
            found = cars_as_published(folder / "cars_annos.mat", _states(folder, "cars_annos.mat"))
        else:
            found = cars_by_classes(folder, _states(folder, "names.csv", "anno_train.csv", "anno_test.csv"))
        return _half(found, 98, split), []


@dataclass(frozen=True, kw_only=True)
class OnlineProducts(Gallery):
    """120,053 photographs of 22,634 products, in `Stanford_Online_Products`; 11,318 products to train on."""

    def listed(self, split: Split) -> tuple[Listing, list[bool]]:
        """Path and class of each image of a split."""
        get = "https://cvgl.stanford.edu/projects/lifted_struct"
        name = "Stanford_Online_Products"
        path = locate(self.root, name, f"{name}.zip", get=get, size="3 GB")
        folder = path if path.is_dir() else unpacked(path) / name
        return products(folder, _states(folder, "Ebay_train.txt", "Ebay_test.txt"))[split], []


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
            raise DataError(f"{folder} has no Eval/list_eval_partition.txt; get the folder Eval too")
        parts = clothes(table, _states(table.parent, table.name))
        if split == "train":
            return parts["train"], []
        queries, gallery = parts["query"], parts["gallery"]
        return queries + gallery, [True] * len(queries) + [False] * len(gallery)


def _half(listing: Listing, classes: int, split: Split) -> Listing:
    """The first classes to train on, or the others to test on."""
    chosen = [(path, name) for path, name in listing if (int(name) <= classes) == (split == "train")]
    if not chosen:
        which = f"up to {classes}" if split == "train" else f"from {classes + 1}"
        raise DataError(f"{Path(listing[0][0]).parent} and the folders beside it have no images of the classes {which}")
    return chosen


def _states(folder: Path, *names: str) -> tuple[tuple[str, int, int], ...]:
    """What tells whether a table, or the folder, has changed since it was read."""
    return tuple(file_state(path) for path in (folder, *(folder / name for name in names)))

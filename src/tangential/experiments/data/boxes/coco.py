"""COCO folders: pictures in one folder per split, and one JSON file of annotations for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from torchvision.datasets import CocoDetection
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages, Thing, tidied
from tangential.experiments.data.locations import locate
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

COCO_CATEGORIES = tuple(
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if name not in ("__background__", "N/A")  # numbers that COCO left out
)


@dataclass(frozen=True, kw_only=True)
class Coco:
    """A folder laid out as COCO's.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        places: Where the data set may lie in it.
        categories: The classes, in the order of their labels: that of their numbers in the files.
        train: The split that is trained on: pictures in the folder of this name, boxes in
            `annotations/instances_<train>.json`.
        test: The split that is tested on, likewise.
        get: Where to get the data set.
        size: How large it is.
        limit: Use only this many pictures of each split, for a quick try; None for all.

    Raises:
        ValueError: A limit below one.

    Example:
        >>> len(Coco().categories), Coco().categories[:2]
        (80, ('person', 'bicycle'))
    """

    root: str | None = None
    places: tuple[str, ...] = ("coco",)
    categories: tuple[str, ...] = COCO_CATEGORIES
    train: str = "train2017"
    test: str = "val2017"
    get: str = "https://cocodataset.org/#download"
    size: str = "20 GB"
    limit: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, limit=self.limit, note="or none for all pictures")

    def load(self, split: Split, view: Callable[[Any, Any], Any]) -> AnnotatedImages:
        """Find the pictures of a split and read their annotations.

        Raises:
            ValueError: Something is not there or cannot be read, or the categories are not those of the file.
        """
        folder = locate(self.root, *self.places, get=self.get, size=self.size)
        name = self.train if split == "train" else self.test
        annotations = folder / "annotations" / f"instances_{name}.json"
        if not annotations.is_file():
            raise ValueError(f"no {annotations}; get it from {self.get} and put it there")
        pictures, dropped = _read(folder / name, annotations, self.categories)
        return AnnotatedImages(pictures[: self.limit], view, dropped=dropped, training=split == "train")


@lru_cache(maxsize=4)
def _read(
    folder: Path, annotations: Path, categories: tuple[str, ...]
) -> tuple[tuple[AnnotatedImage, ...], tuple[str, ...]]:
    index = _index(folder, annotations)
    numbers = sorted(index.cats)
    found = tuple(index.cats[number]["name"] for number in numbers)
    if found != categories:
        raise ValueError(f"{annotations} has the categories {_some(found)}; the task has {_some(categories)}")
    labels = {number: label for label, number in enumerate(numbers, start=1)}
    pictures, dropped = [], []
    try:
        for number in sorted(index.imgs):
            about = index.imgs[number]
            things = [_thing(each, labels) for each in index.imgToAnns[number]]
            picture, lost = tidied(folder / about["file_name"], (about["height"], about["width"]), things)
            pictures.append(picture)
            dropped += lost
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations} is not a file of COCO's boxes ({type(error).__name__}: {error})") from error
    if not pictures:
        raise ValueError(f"{annotations} names no pictures")
    return tuple(pictures), tuple(dropped)


def _index(folder: Path, annotations: Path) -> Any:
    try:
        with redirect_stdout(StringIO()):  # pycocotools prints how long it took
            return CocoDetection(str(folder), str(annotations)).coco  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise ValueError("COCO's annotations need pycocotools: pip install 'tangential[detection]'") from error
    except (OSError, ValueError, KeyError, AssertionError, TypeError) as error:
        raise ValueError(f"{annotations} is not a file of COCO's boxes ({type(error).__name__}: {error})") from error


def _thing(entry: dict[str, Any], labels: dict[int, int]) -> Thing:
    left, top, width, height = map(float, entry["bbox"])
    return Thing(labels[entry["category_id"]], (left, top, left + width, top + height), bool(entry.get("iscrowd", 0)))


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")

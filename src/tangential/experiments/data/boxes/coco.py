"""COCO folders: images in one folder per split, and one JSON file of annotations for each.

The file is three tables: `images`, `categories` and `annotations`, which name the first two by their ids. The joins are
checked on both sides: ids that occur twice or are of another type are refused; annotations of no image, and images that
no table names, are left out with a warning that counts and names them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages, Thing, clipped
from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError, reason, warn_left_out
from tangential.experiments.data.files import find_files, missing_files, read_text
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES, image_size
from tangential.experiments.data.locations import locate
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

COCO_CATEGORIES = tuple(
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if name not in ("__background__", "N/A")  # numbers that COCO left out
)

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Coco:
    """A folder laid out as COCO's.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        places: Where the data set may lie in it.
        categories: The classes, in the order of their labels: that of their numbers in the files.
        train: The split that is trained on: images in the folder of this name, boxes in
            `annotations/instances_<train>.json`.
        test: The split that is tested on, likewise.
        get: Where to get the data set.
        size: How large it is.
        limit: Use only this many images of each split, for a quick try; None for all.

    Raises:
        ValueError: A limit below one.

    Examples:
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
        check_at_least(1, limit=self.limit, note="or none for all images")

    def load(self, split: Split, view: Callable[[Any, Any], Any]) -> AnnotatedImages:
        """Find the images of a split and read their annotations; a warning counts and names what is left out.

        Raises:
            ValueError: Something is not there or cannot be read, or the categories are not those of the file.
        """
        folder = locate(self.root, *self.places, get=self.get, size=self.size)
        name = self.train if split == "train" else self.test
        annotations = folder / "annotations" / f"instances_{name}.json"
        if not annotations.is_file():
            raise ValueError(f"no {annotations}; get it from {self.get} and put it there")
        states = (file_state(annotations), file_state(folder / name))
        images, dropped = _read(folder / name, annotations, self.categories, states)
        warn_left_out(annotations, "annotations", dropped)
        _warn_unnamed(folder / name, annotations, images)
        return AnnotatedImages(images[: self.limit], view, dropped=dropped, training=split == "train")


@lru_cache(maxsize=4)
def _read(
    folder: Path, annotations: Path, categories: tuple[str, ...], states: Any
) -> tuple[tuple[AnnotatedImage, ...], tuple[str, ...]]:
    """Annotated images and what was dropped; `states` tells whether the file or the folder has changed since."""
    try:
        content = json.loads(read_text(annotations))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _fault(annotations, reason(error)) from error
    tables = {name: _table(content, name, annotations) for name in ("images", "categories", "annotations")}
    labels = _labels(tables["categories"], categories, annotations)
    images = _by_id(tables["images"], "image", annotations)
    if not images:
        raise _fault(annotations, "it names no images")
    things, dropped = _things(tables["annotations"], labels, images, annotations)
    paths = {number: folder / _file_name(image, annotations) for number, image in images.items()}
    if missing := missing_files(list(paths.values())):
        raise DataError(f"{annotations} names {len(missing)} images that are not there, as {missing[0]}")
    found = []
    for number in sorted(images):
        image, lost = clipped(paths[number], _size(images[number], paths[number], annotations), things[number])
        found.append(image)
        dropped += lost
    return tuple(found), tuple(dropped)


def _warn_unnamed(folder: Path, annotations: Path, images: tuple[AnnotatedImage, ...]) -> None:
    """Warn of images that lie in the folder and not in the table."""
    if folder.is_dir():
        named = {str(image.path) for image in images}
        files = find_files(folder, IMAGE_SUFFIXES)
        others = [Path(path).name for path in files.paths if path not in named]
        warn_left_out(folder, "images", [f"{name} (not in {annotations.name})" for name in others])


def _fault(annotations: Path, why: str) -> DataError:
    return DataError(f"{annotations} is not a file of COCO's boxes ({why})")


def _table(content: Any, name: str, annotations: Path) -> list[Entry]:
    table = content.get(name) if isinstance(content, dict) else None
    if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
        raise _fault(annotations, f"no table {name!r} in it")
    return table


def _by_id(table: list[Entry], what: str, annotations: Path) -> dict[Any, Entry]:
    """A table by its ids, which are all numbers or all texts, and each there once."""
    found: dict[Any, Entry] = {}
    for place, entry in enumerate(table):
        key = entry.get("id")
        if not isinstance(key, int | str):
            raise _fault(annotations, f"{what} {place} of its table has the id {key!r:.40}")
        if key in found:
            raise _fault(annotations, f"two {what}s have the id {key!r:.40}: {_name(found[key])} and {_name(entry)}")
        found[key] = entry
    if len({type(key) for key in found}) > 1:
        raise _fault(annotations, f"some ids of its {what}s are numbers and some are texts")
    return found


def _name(entry: Entry) -> str:
    return str(entry.get("file_name", entry.get("name", "?")))[:80]


def _labels(table: list[Entry], categories: tuple[str, ...], annotations: Path) -> dict[Any, int]:
    by_id = _by_id(table, "category", annotations)
    numbers = sorted(by_id)
    found = tuple(str(by_id[number].get("name")).strip() for number in numbers)
    if found != categories:
        raise ValueError(f"{annotations} has the categories {_some(found)}; the task has {_some(categories)}")
    return {number: label for label, number in enumerate(numbers, start=1)}


def _things(
    table: list[Entry], labels: dict[Any, int], images: dict[Any, Entry], annotations: Path
) -> tuple[dict[Any, list[Thing]], list[str]]:
    """The things of each image, and a line on each annotation that is of no image or there twice."""
    things: dict[Any, list[Thing]] = {number: [] for number in images}
    seen: set[Any] = set()
    dropped = []
    kind = type(next(iter(images)))
    for place, entry in enumerate(table):
        name = f"annotation {str(entry.get('id', f'number {place}'))[:40]}"
        image = entry.get("image_id")
        if type(image) is not kind:
            raise _fault(annotations, f"{name} has the image_id {image!r:.40}; the ids of images are {_kind(kind)}")
        thing = _thing(entry, labels, name, annotations)
        mark = (entry.get("id"), image, thing) if isinstance(entry.get("id"), int | str) else place
        if image not in images:
            dropped.append(f"{name} (of image {image!r:.40}, which is not there)")
        elif mark in seen:
            dropped.append(f"{name} (there twice)")
        else:
            things[image].append(thing)
        seen.add(mark)
    return things, dropped


def _kind(kind: type) -> str:
    return "texts" if kind is str else "numbers"


def _thing(entry: Entry, labels: dict[Any, int], name: str, annotations: Path) -> Thing:
    category = entry.get("category_id")
    if not isinstance(category, int | str) or category not in labels:
        raise _fault(annotations, f"{name} has the category_id {category!r:.40}, which is none of its categories")
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(edge) for edge in box)):
        raise _fault(annotations, f"{name} has the bbox {box!r:.80}; it has to be left, top, width, height")
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1, "0", "1"):
        raise _fault(annotations, f"{name} has iscrowd={crowd!r:.40}; it has to be 0 or 1")
    left, top, width, height = map(float, box)
    return Thing(labels[category], (left, top, left + width, top + height), int(crowd) == 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)


def _file_name(image: Entry, annotations: Path) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise _fault(annotations, f"image {image['id']!r:.40} has the file_name {name!r:.40}")
    return name


def _size(image: Entry, path: Path, annotations: Path) -> tuple[int, int]:
    """Height and width, measured where the table has none."""
    stated = (image.get("height") or 0, image.get("width") or 0)
    if not all(_is_number(side) and math.isfinite(side) and side >= 0 and side == int(side) for side in stated):
        raise _fault(annotations, f"image {image['id']!r:.40} has height {stated[0]!r:.40}, width {stated[1]!r:.40}")
    return (int(stated[0]), int(stated[1])) if all(stated) else image_size(path)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")

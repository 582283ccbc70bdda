"""Pascal VOC folders: `Annotations/*.xml`, `ImageSets/Main/*.txt` and `JPEGImages`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages, Thing, clipped
from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError, no_damage, reason, warn_left_out
from tangential.experiments.data.files import FileList, find_files, is_hidden, read_lines
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES, image_size
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

PASCAL = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Voc:
    """A folder laid out as Pascal VOC's, or an archive with one inside.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        places: Where the data set may lie in it.
        categories: The classes, in the order of their labels.
        train: The list of `ImageSets/Main` that is trained on.
        test: The list that is tested on.
        first_pixel: What the annotations call the first pixel: 1 in Pascal's, where a box is 1 to 640 wide.
        get: Where to get the data set.
        size: How large it is.
        limit: Use only this many images of each split, for a quick try; None for all.

    Raises:
        ValueError: A limit below one.
    """

    root: str | None = None
    places: tuple[str, ...] = ("VOCdevkit/VOC2007", "VOC2007")
    categories: tuple[str, ...] = PASCAL
    train: str = "trainval"
    test: str = "test"
    first_pixel: int = 1
    get: str = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
    size: str = "870 MB"
    limit: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, limit=self.limit, note="or none for all images")

    def load(self, split: Split, view: Callable[[Any, Any], Any]) -> AnnotatedImages:
        """Find the images of a split and read their annotations; a warning counts and names what is left out.

        Raises:
            ValueError: Something is not there or cannot be read, or a class is not among the categories; it is named.
        """
        place = locate(self.root, *self.places, get=self.get, size=self.size)
        folder = _inside(place if place.is_dir() else unpacked(place))
        name = self.train if split == "train" else self.test
        listed, dropped = _listed(folder, name, find_files(folder / "JPEGImages", IMAGE_SUFFIXES))
        states = tuple((file_state(image), file_state(annotation)) for image, annotation in listed)
        images, boxes = _read(tuple(listed), self.categories, self.first_pixel, states)
        warn_left_out(folder, "images and boxes", [*dropped, *boxes])
        return AnnotatedImages(images[: self.limit], view, dropped=[*dropped, *boxes], training=split == "train")


def blood_cells(root: str | None = None) -> Voc:
    """BCCD: 364 microscope images of 640 x 480 pixels, 4,886 red cells, white cells and platelets.

    The 205 + 87 images of `trainval` are trained on, the 72 of `test` tested on. Two more boxes have no area and
    are dropped. Red cells at the border are often not annotated, so no detector reaches a precision of 1.
    """
    return Voc(
        root=root,
        places=("BCCD", "BCCD_Dataset/BCCD", "bccd-voc/bccd_voc.tar.xz", "bccd_voc.tar.xz"),
        categories=("RBC", "WBC", "Platelets"),
        get="https://github.com/Shenggan/BCCD_Dataset",
        size="7 MB",
    )


def _inside(folder: Path) -> Path:
    """The folder that holds `Annotations`: this one or the only one below it."""
    if (folder / "Annotations").is_dir():
        return folder
    for level in ("*", "*/*"):
        found = [
            each
            for each in sorted(folder.glob(level))
            if (each / "Annotations").is_dir() and not any(map(is_hidden, each.relative_to(folder).parts))
        ]
        if len(found) > 1:
            names = " and ".join(str(each.relative_to(folder)) for each in found[:2])
            raise DataError(f"{folder} has more than one Pascal VOC folder in it ({names}); name one of them")
        if found:
            return found[0]
    raise DataError(f"{folder} is not a Pascal VOC folder: it has no Annotations; see `ls {folder}`")


def _listed(folder: Path, name: str, files: FileList) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Image and annotation of each line of a list, and a line on each that is there twice."""
    lists = folder / "ImageSets" / "Main"
    if not (lists / f"{name}.txt").exists():
        known = ", ".join(sorted(file.stem for file in lists.glob("*.txt"))) or "none"
        raise DataError(f"{lists} has no list {name!r}; the lists there: {known}")
    start = len(os.path.join(folder / "JPEGImages", ""))  # noqa: PTH118
    by_stem: dict[str, list[str]] = {}
    for path in files.paths:
        by_stem.setdefault(os.path.splitext(path)[0][start:], []).append(path)  # noqa: PTH122
    found: dict[str, tuple[Path, Path]] = {}
    dropped = []
    for number, line in read_lines(lists / f"{name}.txt"):
        stem = _stem(line.strip(), by_stem)
        if stem not in by_stem:
            raise DataError(
                f"{folder / 'JPEGImages'} has no image {stem}, which the list {name} names in line {number}"
            )
        if len(by_stem[stem]) > 1:
            both = " and ".join(Path(path).name for path in by_stem[stem])
            raise DataError(f"{folder / 'JPEGImages'} has {both} for the image {stem} of the list {name}; take one out")
        if stem in found:
            dropped.append(f"{stem} (in line {number} of the list {name} again)")
        found[stem] = (Path(by_stem[stem][0]), folder / "Annotations" / f"{stem}.xml")
    if not found:
        raise DataError(f"{lists / name}.txt names no images")
    return list(found.values()), dropped


def _stem(line: str, known: Mapping[str, Any]) -> str:
    """The name on a line of a list, which in the lists of one class ends with -1, 0 or 1."""
    flagged = re.fullmatch(r"(.*\S)\s+-?[01]", line)
    return flagged[1] if flagged and line not in known else line


@lru_cache(maxsize=8)
def _read(
    listed: tuple[tuple[Path, Path], ...], categories: tuple[str, ...], first_pixel: int, states: Any
) -> tuple[tuple[AnnotatedImage, ...], tuple[str, ...]]:
    """Annotated images and the boxes that were dropped; `states` tells whether a file has changed since."""
    images, dropped = [], []
    for path, annotation in listed:
        image, lost = _image(path, annotation, categories, first_pixel)
        images.append(image)
        dropped += lost
    return tuple(images), tuple(dropped)


def _image(
    path: Path, annotation: Path, categories: tuple[str, ...], first_pixel: int
) -> tuple[AnnotatedImage, list[str]]:
    try:
        root = ElementTree.parse(annotation).getroot()
        if root.tag != "annotation":
            raise ValueError(f"it is <{root.tag}>")
        things = [_thing(each, categories, first_pixel) for each in root.findall("object")]
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except Exception as error:  # ParseError, ValueError, LookupError of an unknown encoding, OverflowError, ...
        if no_damage(error):
            raise
        raise DataError(f"{annotation} is not an annotation of Pascal VOC ({reason(error)})") from error
    if height < 1 or width < 1:
        height, width = image_size(path)
    return clipped(path, (height, width), things)


def _thing(entry: ElementTree.Element, categories: tuple[str, ...], first_pixel: int) -> Thing:
    name = (entry.findtext("name") or "").strip()
    if name not in categories:
        raise ValueError(f"its class {name!r} is not among {', '.join(categories)}")
    left, top, right, bottom = (_number(entry, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    if right > left and bottom > top:  # a box of one pixel is an annotator's slip, not a thing
        # pixels are counted, edges lie between them: the first pixel reaches from edge 0 to edge 1
        left, top = left - first_pixel, top - first_pixel
        right, bottom = right - first_pixel + 1, bottom - first_pixel + 1
    difficult = (entry.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise ValueError(f"difficult is {difficult!r:.20}, not 0 or 1")
    return Thing(categories.index(name) + 1, (left, top, right, bottom), difficult == "1")


def _number(entry: ElementTree.Element, name: str) -> float:
    text = entry.findtext(name)
    if text is None or not text.strip():
        raise ValueError(f"no {name} in one of its objects")
    return float(text)

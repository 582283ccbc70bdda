"""Pascal VOC folders: `Annotations/*.xml`, `ImageSets/Main/*.txt` and `JPEGImages`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image
from torchvision.datasets import VOCDetection

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages, Thing, tidied
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES
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
        limit: Use only this many pictures of each split, for a quick try; None for all.

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
        check_at_least(1, limit=self.limit, note="or none for all pictures")

    def load(self, split: Split, view: Callable[[Any, Any], Any]) -> AnnotatedImages:
        """Find the pictures of a split and read their annotations.

        Raises:
            ValueError: Something is not there or cannot be read, or a class is not among the categories; it is named.
        """
        place = locate(self.root, *self.places, get=self.get, size=self.size)
        folder = _inside(place if place.is_dir() else unpacked(place))
        name = self.train if split == "train" else self.test
        pictures, dropped = _read(folder, name, self.categories, self.first_pixel)
        return AnnotatedImages(pictures[: self.limit], view, dropped=dropped, training=split == "train")


def blood_cells(root: str | None = None) -> Voc:
    """Give BCCD: 364 microscope pictures of 640 x 480 pixels, 4,886 red cells, white cells and platelets.

    The 205 + 87 pictures of `trainval` are trained on, the 72 of `test` tested on. Two more boxes have no area and
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
    for candidate in (folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        if (candidate / "Annotations").is_dir():
            return candidate
    raise ValueError(f"{folder} is not a Pascal VOC folder: it has no Annotations; see `ls {folder}`")


@lru_cache(maxsize=8)
def _read(
    folder: Path, name: str, categories: tuple[str, ...], first_pixel: int
) -> tuple[tuple[AnnotatedImage, ...], tuple[str, ...]]:
    lists = folder / "ImageSets" / "Main"
    try:
        lines = (lists / f"{name}.txt").read_text().splitlines()
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in lists.glob("*.txt"))) or "none"
        raise ValueError(f"{lists} has no list {name!r}; the lists there: {known}") from error
    files = {
        file.stem: file for file in sorted((folder / "JPEGImages").glob("*")) if file.suffix.lower() in IMAGE_SUFFIXES
    }
    pictures, dropped = [], []
    for stem in (line.split()[0] for line in lines if line.strip()):
        if stem not in files:
            raise ValueError(f"{folder / 'JPEGImages'} has no picture {stem}, which the list {name} names")
        picture, lost = _picture(files[stem], folder / "Annotations" / f"{stem}.xml", categories, first_pixel)
        pictures.append(picture)
        dropped += lost
    if not pictures:
        raise ValueError(f"{lists / name}.txt names no pictures")
    return tuple(pictures), tuple(dropped)


def _picture(
    path: Path, annotation: Path, categories: tuple[str, ...], first_pixel: int
) -> tuple[AnnotatedImage, list[str]]:
    try:
        content = VOCDetection.parse_voc_xml(ElementTree.parse(annotation).getroot())["annotation"]
        things = [_thing(each, categories, first_pixel) for each in content["object"]]
        size = content.get("size", {})
        height, width = (int(float(size.get(side, 0))) for side in ("height", "width"))
    except (OSError, ElementTree.ParseError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"no {error} in it" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ValueError(f"{annotation} is not an annotation of Pascal VOC ({why})") from error
    if height < 1 or width < 1:
        width, height = _measured(path)
    return tidied(path, (height, width), things)


def _thing(entry: dict[str, Any], categories: tuple[str, ...], first_pixel: int) -> Thing:
    if entry["name"] not in categories:
        raise ValueError(f"its class {entry['name']!r} is not among {', '.join(categories)}")
    left, top, right, bottom = (float(entry["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax"))
    if right > left and bottom > top:  # a box of one pixel is an annotator's slip, not a thing
        # pixels are counted, edges lie between them: the first pixel reaches from edge 0 to edge 1
        left, top, right, bottom = (
            left - first_pixel,
            top - first_pixel,
            right - first_pixel + 1,
            bottom - first_pixel + 1,
        )
    return Thing(categories.index(entry["name"]) + 1, (left, top, right, bottom), entry.get("difficult", "0") == "1")


def _measured(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); get it again, or take it out") from error

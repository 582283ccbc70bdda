"""The tables of the retrieval data sets: which image files there are, and of which class each is.

Every reader joins its tables by the keys they have in common and checks both sides: what one table names and another
one, or the disk, has not is counted and named. `states` are the sizes and times of the tables, so that a table that was
replaced is read again.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tangential.experiments.data.faults import DataError, no_damage, reason, warn_left_out
from tangential.experiments.data.files import find_files, missing_files, read_lines
from tangential.experiments.data.images.decoding import IMAGE_SUFFIXES

Listing = list[tuple[str, str]]
"""Path and class of each image."""


@lru_cache(maxsize=4)
def birds(folder: Path, states: Any) -> Listing:
    """CUB-200-2011: `images.txt` and `image_class_labels.txt`, joined by the ids of images."""
    paths = _pairs(folder, "images.txt", "CUB")
    labels = _pairs(folder, "image_class_labels.txt", "CUB")
    if odd := paths.keys() ^ labels.keys():
        first = min(odd, key=natural)
        raise DataError(f"{folder}: {len(odd)} ids are in images.txt or image_class_labels.txt alone, as {first}")
    for key, label in labels.items():
        if not (label.isdecimal() and 1 <= int(label) <= 200):
            raise DataError(
                f"{folder / 'image_class_labels.txt'}: image {key} has the class {label!r:.40}, not 1 to 200"
            )
    return _present(
        [(str(folder / "images" / path), str(int(labels[key]))) for key, path in paths.items()],
        folder,
        folder / "images",
    )


def _pairs(folder: Path, name: str, what: str) -> dict[str, str]:
    """A table of two columns: an id, and all that follows it."""
    table = _there(folder, name, what)
    found: dict[str, str] = {}
    for number, line in read_lines(table):
        key, _, value = line.strip().partition(" ")
        if not value.strip():
            raise DataError(f"{table}, line {number}: {line!r:.80} is not an id and a value")
        if key in found:
            raise DataError(f"{table}, line {number}: the id {key!r:.40} is there twice")
        found[key] = value.strip()
    return found


@lru_cache(maxsize=4)
def cars_by_classes(folder: Path, states: Any) -> Listing:
    """Cars-196 as it can be had: `names.csv`, `anno_{train,test}.csv`, and a folder for each name."""
    names = [line.strip() for _, line in read_lines(_there(folder, "names.csv", "Cars196"))]
    found = []
    for split in ("train", "test"):
        table = _there(folder, f"anno_{split}.csv", "Cars196")
        for number, line in read_lines(table):
            (row,) = csv.reader([line])
            label = row[-1].strip()
            if len(row) < 2 or not (label.isdecimal() and 1 <= int(label) <= min(len(names), 196)):
                raise DataError(
                    f"{table}, line {number}: {line!r:.80} does not end with a class from 1 to {len(names)}"
                )
            home = folder / "car_data" / "car_data" / split / names[int(label) - 1].replace("/", "-")
            found.append((str(home / row[0].strip()), str(int(label))))
    return _present(found, folder, folder / "car_data")


@lru_cache(maxsize=4)
def cars_as_published(table: Path, states: Any) -> Listing:
    """Cars-196 as first published: `cars_annos.mat`."""
    from scipy.io import loadmat  # comes with scikit-learn

    try:
        rows = loadmat(str(table), squeeze_me=True)["annotations"]
        found = [(str(row["relative_im_path"]), int(row["class"])) for row in rows]
    except Exception as error:  # MatReadError, zlib.error, NotImplementedError, KeyError, IndexError, ...
        if no_damage(error):
            raise
        raise DataError(f"{table} is not the table of Cars-196 ({reason(error)}); get it again") from error
    if strange := sorted({kind for _, kind in found if not 1 <= kind <= 196}):
        raise DataError(f"{table} has the class {strange[0]}; there are 1 to 196")
    return _present([(str(table.parent / path), str(kind)) for path, kind in found], table, table.parent / "car_ims")


@lru_cache(maxsize=4)
def products(folder: Path, states: Any) -> dict[str, Listing]:
    """Stanford Online Products: `Ebay_{train,test}.txt`, with a heading and the columns id, class, kind and path."""
    found: dict[str, Listing] = {}
    for split in ("train", "test"):
        table = _there(folder, f"Ebay_{split}.txt", "StanfordOnlineProducts")
        rows = []
        for number, line in list(read_lines(table))[1:]:
            row = line.split(None, 3)
            if len(row) != 4 or not row[1].isdecimal():
                raise DataError(f"{table}, line {number}: {line!r:.80} is not an id, a class, a kind and a path")
            rows.append((str(folder / row[3]), str(int(row[1]))))
        found[split] = _present(rows, table)
    _warn_unnamed([*found["train"], *found["test"]], folder, folder)
    both = {name for _, name in found["train"]} & {name for _, name in found["test"]}
    if both:
        raise DataError(f"{folder}: {len(both)} classes are in both lists, as {min(both)}; get the lists again")
    return found


@lru_cache(maxsize=4)
def clothes(table: Path, states: Any) -> dict[str, Listing]:
    """In-Shop's own table: a count, a heading, then path, item and part (train, query or gallery) of each image."""
    parts: dict[str, Listing] = {"train": [], "query": [], "gallery": []}
    lines = list(read_lines(table))
    for number, line in lines[2:]:
        words = line.strip().rsplit(None, 2)
        if len(words) != 3 or words[2] not in parts:
            raise DataError(f"{table}, line {number}: {line!r:.80} is not a path, an item and train, query or gallery")
        parts[words[2]].append((words[0], words[1]))
    found, announced = sum(map(len, parts.values())), lines[0][1].strip() if lines else ""
    if not all(parts.values()) or announced != str(found):
        raise DataError(f"{table} announces {announced!r:.20} images and has {found}; get it again")
    home = table.parent.parent
    home = home / "Img" if (home / "Img" / parts["train"][0][0]).exists() else home
    placed = {part: [(str(home / path), item) for path, item in listing] for part, listing in parts.items()}
    _present([row for listing in placed.values() for row in listing], table, home)
    if odd := {item for _, item in placed["query"]} - {item for _, item in placed["gallery"]}:
        raise DataError(f"{table}: {len(odd)} items have queries and nothing in the gallery, as {min(odd)}")
    return placed


def _there(folder: Path, name: str, what: str) -> Path:
    if not (folder / name).is_file():
        raise DataError(f"{folder} is not laid out as {what} is published (no {name}); get it again")
    return folder / name


def _present(listing: Listing, where: Path, home: Path | None = None) -> Listing:
    """A listing whose images are all there, each once; a warning counts those of a folder that it does not name."""
    if not listing:
        raise DataError(f"{where} lists no images; get it again")
    if missing := missing_files([path for path, _ in listing]):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{where} lists {missing[0]}, which is not there{more}; get the images too")
    if twice := _twice(path for path, _ in listing):
        raise DataError(f"{where} lists {twice} twice; get it again")
    if home is not None:
        _warn_unnamed(listing, where, home)
    return listing


def _warn_unnamed(listing: Listing, where: Path, home: Path) -> None:
    named = {path for path, _ in listing}
    others = [path for path in find_files(home, IMAGE_SUFFIXES).paths if path not in named]
    warn_left_out(where, "images", [f"{os.path.relpath(path, home)} (in no table)" for path in others])


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")


def natural(name: str) -> tuple[int, str]:
    """Sorting key: numbers in the order of their values."""
    return (int(name), "") if name.isdecimal() else (-1, name)

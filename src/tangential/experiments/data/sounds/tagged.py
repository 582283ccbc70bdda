"""Clips that many tags may fit: MagnaTagATune's music, and the sound events of DCASE 2017's task 4."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError
from tangential.experiments.data.files import FileList, find_files, read_lines, without_suffix
from tangential.experiments.data.locations import locate
from tangential.experiments.data.sounds.clips import SPLITS, Listing, Recordings
from tangential.experiments.data.sounds.decoding import SOUND_SUFFIXES
from tangential.experiments.data.sounds.synthetic import Tones

EVENTS = (
    "Train horn", "Air horn, truck horn", "Car alarm", "Reversing beeps", "Bicycle", "Skateboard",
    "Ambulance (siren)", "Fire engine, fire truck (siren)", "Civil defense siren", "Police car (siren)", "Screaming",
    "Car", "Car passing by", "Bus", "Truck", "Motorcycle", "Train",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MagnaTagATune(Recordings):
    """25,863 clips of music, 29 seconds each, and the tags that players of a game gave them (Law et al., 2009).

    The 50 most frequent tags count, clips with none of them are left out. Clips of the folders 0 to b are trained on,
    those of c are for validation, those of d to f are tested on.

    Args:
        root: The folder of the data sets, in which `mtat` lies: `annotations_final.csv` and the folders 0 to f, maybe
            in `mp3`; the files may be of any kind libsndfile knows. See `Recordings`, as for the rest.
        tags: How many of the most frequent tags.
    """

    tags: int = 50

    @property
    def categories(self) -> tuple[str, ...]:
        """The tags, the most frequent first."""
        return self._read()[1]

    def listing(self) -> Listing:
        """All files with their tags and splits."""
        return self._read()[0]

    def smoke(self) -> Tones:
        """16 synthetic sounds of one or two tones."""
        return Tones(sample_rate=self.sample_rate, several=True)

    def _read(self) -> tuple[Listing, tuple[str, ...]]:
        get = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
        table = locate(
            self.root, *("mtat/annotations_final.csv", "MagnaTagATune/annotations_final.csv"), get=get, size="2.9 GB"
        )
        return _music(table.parent, self.tags, file_state(table), find_files(table.parent, SOUND_SUFFIXES))


@dataclass(frozen=True, kw_only=True)
class SoundEvents(Recordings):
    """DCASE 2017, task 4: 10-second clips of traffic and alarms from videos, weakly labelled with 17 kinds of sounds.

    A tenth of the training clips of each kind, drawn with a fixed seed, are for validation; the challenge's evaluation
    set is tested on.

    Args:
        root: The folder of the data sets, in which `dcase2017-task4` lies: `groundtruth_weak_label_training_set.csv`,
            `groundtruth_weak_label_evaluation_set.csv` (maybe in `groundtruth_release`), and the clips in any folders,
            named as in the lists, with a Y before the name or without. See `Recordings`, as for the rest.
    """

    categories = EVENTS

    def listing(self) -> Listing:
        """All files with their tags and splits."""
        get = (
            "https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars,"
            " with the clips from YouTube,"
        )
        return _events(locate(self.root, "dcase2017-task4", "dcase", get=get, size="45 GB"))

    def smoke(self) -> Tones:
        """16 synthetic sounds of one or two tones."""
        return Tones(sample_rate=self.sample_rate, several=True)


@lru_cache(maxsize=2)
def _music(folder: Path, number: int, state: Any, files: FileList) -> tuple[Listing, tuple[str, ...]]:
    """The clips with one of the most frequent tags, and these; `state` is the size and time of the table."""
    table = folder / "annotations_final.csv"
    names, rows, places = _annotated(table)
    if not 1 <= number <= len(names):
        raise ValueError(f"tags={number}: must be from 1 to {len(names)}, which {folder} has")
    given = torch.tensor(rows, dtype=torch.float32)
    frequent = given.sum(dim=0).argsort(descending=True, stable=True)[:number]
    targets = given[:, frequent]
    chosen = targets.any(dim=1)
    known = _by_place(folder, files)
    # under `mp3` or not, and of any kind: only folder and name count
    paths = [
        known.get(_place(place), folder / place) for place, keep in zip(places, chosen.tolist(), strict=True) if keep
    ]
    splits = torch.tensor([_split_of_music(path) for path in paths])
    unnamed = sorted(known.keys() - set(map(_place, places)))
    left_out = (*files.left_out, *(f"{name} (not in {table.name})" for name in unnamed))
    listing = Listing("magnatagatune", paths, targets[chosen], splits, None, left_out)
    return listing, tuple(names[i] for i in frequent.tolist())


def _annotated(table: Path) -> tuple[list[str], list[list[int]], list[str]]:
    """The names of the tags, who has which, and the paths of a table as it is published."""
    try:
        rows = [(number, row) for number, line in read_lines(table) for row in csv.reader([line], delimiter="\t")]
    except csv.Error as error:
        raise DataError(f"{table} is not MagnaTagATune's table of annotations ({error})") from error
    (_, header), *rows = rows or [(1, [])]
    if len(header) < 3 or header[0] != "clip_id" or header[-1] != "mp3_path":
        raise _no_table(table, "its columns are not clip_id, the tags, mp3_path")
    if not rows:
        raise _no_table(table, "it names no clips")
    places: dict[str, int] = {}
    for number, row in rows:
        if len(row) != len(header) or not set(row[1:-1]) <= {"0", "1"}:
            raise _no_table(table, f"line {number} has not {len(header)} columns with 0 or 1 for each tag")
        if _place(row[-1]) in places:
            raise _no_table(table, f"lines {places[_place(row[-1])]} and {number} are both of {row[-1]!r:.80}")
        places[_place(row[-1])] = number
    return header[1:-1], [[int(mark) for mark in row[1:-1]] for _, row in rows], [row[-1] for _, row in rows]


def _no_table(table: Path, why: str) -> DataError:
    return DataError(f"{table} is not MagnaTagATune's table of annotations ({why})")


def _split_of_music(path: Path) -> int:
    folder = path.parent.name
    if len(folder) != 1 or folder not in "0123456789abcdef":
        raise DataError(f"{path}: clips of MagnaTagATune lie in folders 0 to f")
    return SPLITS.index("train" if folder <= "b" else "validation" if folder == "c" else "test")


def _events(folder: Path) -> Listing:
    lists = [_labelled(folder, f"groundtruth_weak_label_{kind}_set.csv") for kind in ("training", "evaluation")]
    if twice := lists[0].keys() & lists[1].keys():
        raise DataError(f"{folder}: {len(twice)} clips are in both lists, {min(twice)} for one; get the lists again")
    names = [name for each in lists for name in each]
    targets = torch.zeros(len(names), len(EVENTS))
    for row, kinds in zip(targets, (kinds for each in lists for kinds in each.values()), strict=True):
        row[list(kinds)] = 1
    splits = torch.full((len(names),), SPLITS.index("test"))
    splits[: len(lists[0])] = torch.where(tenth(targets[: len(lists[0])]), SPLITS.index("validation"), 0)
    files = find_files(folder, SOUND_SUFFIXES)
    found, unnamed = _joined(names, files)
    paths = [found.get(name, folder / name) for name in names]
    left_out = (*files.left_out, *(f"{path.name} (in no list)" for path in unnamed))
    return Listing("dcase2017-task4", paths, targets, splits, None, left_out)


def _joined(names: Sequence[str], files: FileList) -> tuple[dict[str, Path], list[Path]]:
    """The file of each listed name, and the files of none.

    Files have a Y before the name or not. An id of a video may begin with one itself, so which it is, is decided once
    for all: as most names find a file.
    """
    known: dict[str, Path] = {}
    for path in map(Path, files.paths):
        if path.stem in known:
            raise DataError(f"{path} and {known[path.stem]} have the same name; take one out")
        known[without_suffix(path.name, SOUND_SUFFIXES)] = path
    stems = {name: without_suffix(Path(name).name, SOUND_SUFFIXES) for name in names}
    begin = max(("Y", ""), key=lambda begin: sum(begin + stem in known for stem in stems.values()))
    found = {name: known[begin + stem] for name, stem in stems.items() if begin + stem in known}
    taken = set(found.values())
    other = "" if begin else "Y"
    for name, stem in stems.items():
        if name not in found and known.get(other + stem) not in (None, *taken):
            found[name] = known[other + stem]
    taken = set(found.values())
    return found, [path for path in known.values() if path not in taken]


def _labelled(folder: Path, name: str) -> dict[str, set[int]]:
    """The kinds of sounds of each clip of a list, which has one line for each of them."""
    places = [folder / name, folder / "groundtruth_release" / name]
    table = next((place for place in places if place.exists()), places[0])
    found: dict[str, set[int]] = {}
    if not table.is_file():
        raise DataError(f"{table} is not a list of the challenge (not there)")
    for number, line in read_lines(table):
        row = [cell.strip() for cell in line.split("\t")]
        if len(row) != 4 or not row[0]:
            raise DataError(
                f"{table} is not a list of the challenge (line {number}: {line!r:.80} is no clip, start, end and kind)"
            )
        if row[3] not in EVENTS:
            raise DataError(
                f"{table} is not a list of the challenge (line {number}: {row[3]!r:.80} is none of the 17 kinds)"
            )
        found.setdefault(row[0], set()).add(EVENTS.index(row[3]))
    if not found:
        raise DataError(f"{table} is not a list of the challenge (it names no clips)")
    return found


def tenth(targets: Tensor) -> Tensor:
    """Choose a tenth of the clips of each tag, at least one, always the same.

    Args:
        targets: Zeros and ones, `(count, tags)`.

    Returns:
        Which clips, `(count,)`. Clips of several tags may be chosen for any of them, and then count for all.

    Examples:
        >>> tenth(torch.eye(2).repeat(20, 1)).sum().item()
        4
    """
    draw = torch.Generator().manual_seed(0)
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for tag in targets.T:
        members = tag.nonzero().flatten()
        members = members[torch.randperm(len(members), generator=draw)]
        missing = math.ceil(len(members) / 10) - int(chosen[members].sum())
        chosen[members[~chosen[members]][: max(missing, 0)]] = True
    return chosen


def _by_place(folder: Path, files: FileList) -> dict[str, Path]:
    """All sound files, by the name of their folder and their own without suffix."""
    found: dict[str, Path] = {}
    for path in map(Path, files.paths):
        if (name := _place(path)) in found:
            raise DataError(f"{folder} has {name} twice, as {found[name]} and {path}; take one out")
        found[name] = path
    return found


def _place(path: Path | str) -> str:
    path = Path(path)
    return f"{path.parent.name}/{without_suffix(path.name, SOUND_SUFFIXES)}"

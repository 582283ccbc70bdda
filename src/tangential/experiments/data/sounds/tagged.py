"""Clips that many tags may fit: MagnaTagATune's music, and the sound events of DCASE 2017's task 4."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

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
        return _music(self._folder(), self.tags)[1]

    def listing(self) -> Listing:
        """Find the files."""
        return _music(self._folder(), self.tags)[0]

    def smoke(self) -> Tones:
        """Take 16 generated sounds of one or two tones."""
        return Tones(sample_rate=self.sample_rate, several=True)

    def _folder(self) -> Path:
        get = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
        return locate(
            self.root, *("mtat/annotations_final.csv", "MagnaTagATune/annotations_final.csv"), get=get, size="2.9 GB"
        ).parent


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
        """Find the files."""
        get = (
            "https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars,"
            " with the clips from YouTube,"
        )
        return _events(locate(self.root, "dcase2017-task4", "dcase", get=get, size="45 GB"))

    def smoke(self) -> Tones:
        """Take 16 generated sounds of one or two tones."""
        return Tones(sample_rate=self.sample_rate, several=True)


@lru_cache(maxsize=2)
def _music(folder: Path, number: int) -> tuple[Listing, tuple[str, ...]]:
    names, rows, places = _annotated(folder / "annotations_final.csv")
    if not 1 <= number <= len(names):
        raise ValueError(f"tags={number}: must be from 1 to {len(names)}, which {folder} has")
    given = torch.tensor(rows, dtype=torch.float32)
    frequent = given.sum(dim=0).argsort(descending=True, stable=True)[:number]
    targets = given[:, frequent]
    kept = targets.any(dim=1)
    known = _sounds_in(folder)
    # under `mp3` or not, and of any kind: only folder and name count
    paths = [
        known.get(_place(place), folder / place) for place, keep in zip(places, kept.tolist(), strict=True) if keep
    ]
    splits = torch.tensor([_split_of_music(path) for path in paths])
    return Listing("magnatagatune", paths, targets[kept], splits), tuple(names[i] for i in frequent.tolist())


def _annotated(table: Path) -> tuple[list[str], list[list[int]], list[str]]:
    """The names of the tags, who has which, and the paths of a table as it is published."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, delimiter="\t")
        if header[0] != "clip_id" or header[-1] != "mp3_path":
            raise ValueError("its columns are not clip_id, the tags, mp3_path")
        return header[1:-1], [[int(mark) for mark in row[1:-1]] for row in rows], [row[-1] for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{table} is not MagnaTagATune's table of annotations ({error})") from error


def _split_of_music(path: Path) -> int:
    folder = path.parent.name
    if len(folder) != 1 or folder not in "0123456789abcdef":
        raise ValueError(f"{path}: clips of MagnaTagATune lie in folders 0 to f")
    return SPLITS.index("train" if folder <= "b" else "validation" if folder == "c" else "test")


@lru_cache(maxsize=2)
def _events(folder: Path) -> Listing:
    lists = [_labelled(folder, f"groundtruth_weak_label_{kind}_set.csv") for kind in ("training", "evaluation")]
    known = {path.stem.removeprefix("Y"): path for path in _sounds_in(folder).values()}
    if twice := lists[0].keys() & lists[1].keys():
        raise ValueError(f"{folder}: {len(twice)} clips are in both lists, {min(twice)} for one; get the lists again")
    names = [name for each in lists for name in each]
    targets = torch.zeros(len(names), len(EVENTS))
    for row, kinds in zip(targets, (kinds for each in lists for kinds in each.values()), strict=True):
        row[list(kinds)] = 1
    splits = torch.full((len(names),), SPLITS.index("test"))
    splits[: len(lists[0])] = torch.where(tenth(targets[: len(lists[0])]), SPLITS.index("validation"), 0)
    paths = [known.get(Path(name).stem.removeprefix("Y"), folder / name) for name in names]
    return Listing("dcase2017-task4", paths, targets, splits)


def _labelled(folder: Path, name: str) -> dict[str, set[int]]:
    """The kinds of sounds of each clip of a list, which has one line for each of them."""
    places = [folder / name, folder / "groundtruth_release" / name]
    table = next((place for place in places if place.exists()), places[0])
    found: dict[str, set[int]] = {}
    try:
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
            clip, _, _, kind = line.split("\t")
            if kind.strip() not in EVENTS:
                raise ValueError(f"line {number}: {kind!r} is none of the 17 kinds")
            found.setdefault(clip, set()).add(EVENTS.index(kind.strip()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{table} is not a list of the challenge ({error})") from error
    return found


def tenth(targets: Tensor) -> Tensor:
    """Choose a tenth of the clips of each tag, at least one, always the same.

    Args:
        targets: Zeros and ones, `(count, tags)`.

    Returns:
        Which clips, `(count,)`. Clips of several tags may be chosen for any of them, and then count for all.

    Example:
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


def _sounds_in(folder: Path) -> dict[str, Path]:
    """All sound files, by the name of their folder and their own without suffix."""
    paths: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    return {_place(path): path for path in paths}


def _place(path: Path | str) -> str:
    path = Path(path)
    return f"{path.parent.name}/{path.stem}"

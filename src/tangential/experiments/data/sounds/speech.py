"""Single spoken words: Speech Commands (Warden, 2018) and the Free Spoken Digit Dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from tangential.experiments.data.faults import DataError
from tangential.experiments.data.files import find_files, read_lines, without_suffix
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.data.sounds.clips import SPLITS, Listing, Recordings
from tangential.experiments.data.sounds.decoding import SOUND_SUFFIXES
from tangential.experiments.data.sounds.synthetic import Tones

COMMANDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechCommands(Recordings):
    """Speech Commands v2: 105,829 recordings of 35 words, one second at 16 kHz, in the published split.

    `testing_list.txt` names the test files, `validation_list.txt` those for validation; the others are trained on. The
    long recordings of background noise are not used.

    Args:
        root: The folder of the data sets, in which `speech_commands_v0.02`, a folder or a `.tar.gz`, lies; see
            `Recordings`, as for the rest.
    """

    categories = COMMANDS

    def listing(self) -> Listing:
        """All files with their words and splits."""
        name = "speech_commands_v0.02"
        place = locate(
            self.root,
            *(name, f"{name}.tar.gz", "speech_commands/" + name, f"speech_commands/{name}.tar.gz"),
            get="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            size="2.4 GB",
        )
        if place.is_dir():
            return _commands(place, None)
        home = unpacked(place)
        return _commands(home, home.name)

    def smoke(self) -> Tones:
        """16 synthetic tones."""
        return Tones(sample_rate=self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Fsdd(Recordings):
    """The Free Spoken Digit Dataset: six speakers say each digit 50 times, 0.1 to 2.3 seconds at 8 kHz.

    The official split tests on the first five recordings of each digit by each speaker, so no speaker is new; the
    next five are its validation split, trained on unless they are tested on. With `speaker` all recordings of that one
    are tested on, and the others' trained on.

    Args:
        root: The folder of the data sets, in which `fsdd/fsdd.tar.xz` or the folder `free-spoken-digit-dataset` (or
            `fsdd`) with `recordings` lies; see `Recordings`, as for the rest.
        speaker: Whom to leave out of training: george, jackson, lucas, nicolas, theo or yweweler; none for the official
            split.

    Raises:
        ValueError: A speaker who is not there, or a validation split besides a speaker.
    """

    sample_rate: int = 8000
    speaker: str | None = None

    categories = tuple("0123456789")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.speaker is not None and self.test != "test":
            raise ValueError(f"test={self.test}: there is no validation split beside speaker={self.speaker}")

    def listing(self) -> Listing:
        """All files with their digits and splits."""
        place = locate(
            self.root,
            *("fsdd/fsdd.tar.xz", "fsdd.tar.xz"),
            *("free-spoken-digit-dataset/recordings", "fsdd/recordings", "fsdd/fsdd/recordings"),
            get="https://github.com/Jakobovski/free-spoken-digit-dataset",
            size="13 MB",
        )
        home = place if place.is_dir() else unpacked(place)
        paths, named, left_out = _recorded(home)
        speakers = sorted({speaker for _, speaker, _ in named})
        if self.speaker is not None and self.speaker not in speakers:
            raise ValueError(f"speaker={self.speaker}: there is no such speaker; there are {', '.join(speakers)}")
        splits = torch.tensor([SPLITS.index(self._split(speaker, index)) for _, speaker, index in named])
        digits = torch.tensor([digit for digit, _, _ in named])
        return Listing("fsdd", paths, digits, splits, None if place.is_dir() else home.name, left_out)

    def smoke(self) -> Tones:
        """16 synthetic tones."""
        return Tones(sample_rate=self.sample_rate)

    def _split(self, who: str, index: int) -> str:
        if self.speaker is not None:
            return "test" if who == self.speaker else "train"
        if index < 5:
            return "test"
        return "validation" if index < 10 and self.test == "validation" else "train"


def _commands(folder: Path, known: str | None) -> Listing:
    splits: dict[str, str] = {}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        if not (folder / name).is_file():
            raise DataError(f"{folder} has no {name}: it is not Speech Commands v2 as it is published")
        listed = {line.strip() for _, line in read_lines(folder / name)}
        if both := listed & splits.keys():
            raise DataError(f"{folder}: {len(both)} clips are in both lists, as {min(both)}; get the lists again")
        splits |= dict.fromkeys(listed, split)
    found, left_out = _words(folder)
    # the lists name wav files; a clip may lie there as another kind of file
    parts = {without_suffix(name, SOUND_SUFFIXES): split for name, split in splits.items()}
    # a file that is listed and not there is named when it is decoded, so the lists count besides what lies there
    found = {without_suffix(name, SOUND_SUFFIXES): folder / name for name in splits} | found
    words = [name.partition("/")[0] for name in sorted(found)]
    if strange := set(words) - set(COMMANDS):
        raise DataError(f"the lists in {folder} name words that are not among the 35: {', '.join(sorted(strange))}")
    return Listing(
        "speech-commands",
        [found[name] for name in sorted(found)],
        torch.tensor([COMMANDS.index(word) for word in words]),
        torch.tensor([SPLITS.index(parts.get(name, "train")) for name in sorted(found)]),
        known,
        left_out,
    )


def _words(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The clips of the 35 words by their names without suffix, and what else lies in their folders."""
    found: dict[str, Path] = {}
    left_out = []
    for word in COMMANDS:
        if (folder / word).is_dir():
            files = find_files(folder / word, SOUND_SUFFIXES)
            left_out += [f"{word}/{name}" for name in files.left_out]
            left_out += [f"{word}/{name} (its name ends otherwise)" for name in files.others]
            for path in map(Path, files.paths):
                name = without_suffix(path.relative_to(folder).as_posix(), SOUND_SUFFIXES)
                if name in found:
                    raise DataError(f"{folder} has {name} twice, as {found[name].name} and {path.name}; take one out")
                found[name] = path
    return found, left_out


def _recorded(folder: Path) -> tuple[list[Path], list[tuple[int, str, int]], list[str]]:
    """The recordings, named DIGIT_SPEAKER_INDEX; these three of each; and what else lies there."""
    files = find_files(folder, SOUND_SUFFIXES)
    found: dict[tuple[int, str, int], Path] = {}
    left_out = list(files.left_out)
    for path in map(Path, files.paths):
        parts = re.fullmatch(r"([0-9])_(.+)_([0-9]+)", path.stem)
        if parts is None:
            if path.stem.count("_") >= 2:
                raise DataError(f"{path} is not named DIGIT_SPEAKER_INDEX.wav")
            left_out.append(f"{path.name} (not named DIGIT_SPEAKER_INDEX)")
            continue
        name = (int(parts[1]), parts[2], int(parts[3]))
        if name in found:
            raise DataError(f"{path} and {found[name]} are the same recording; take one out")
        found[name] = path
    if not found:
        raise DataError(f"{folder} has no recordings named DIGIT_SPEAKER_INDEX.wav")
    return list(found.values()), list(found), left_out

"""Single spoken words: Speech Commands (Warden, 2018) and the Free Spoken Digit Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

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
        """Find the files."""
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
        """Take 16 generated tones."""
        return Tones(sample_rate=self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Fsdd(Recordings):
    """The Free Spoken Digit Dataset: six speakers say each digit 50 times, 0.1 to 2.3 seconds at 8 kHz.

    The official split tests on the first five recordings of each digit by each speaker, so all speakers are known; the
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
        """Find the files."""
        place = locate(
            self.root,
            *("fsdd/fsdd.tar.xz", "fsdd.tar.xz"),
            *("free-spoken-digit-dataset/recordings", "fsdd/recordings", "fsdd/fsdd/recordings"),
            get="https://github.com/Jakobovski/free-spoken-digit-dataset",
            size="13 MB",
        )
        home = place if place.is_dir() else unpacked(place)
        paths = _recorded(home)
        said = [path.stem.split("_") for path in paths]
        speakers = sorted({who for _, who, _ in said})
        if self.speaker is not None and self.speaker not in speakers:
            raise ValueError(f"speaker={self.speaker}: there is no such speaker; there are {', '.join(speakers)}")
        splits = [self._split(who, int(index)) for _, who, index in said]
        digits = torch.tensor([int(digit) for digit, _, _ in said])
        known = None if place.is_dir() else home.name
        return Listing("fsdd", paths, digits, torch.tensor([SPLITS.index(split) for split in splits]), known)

    def smoke(self) -> Tones:
        """Take 16 generated tones."""
        return Tones(sample_rate=self.sample_rate)

    def _split(self, who: str, index: int) -> str:
        if self.speaker is not None:
            return "test" if who == self.speaker else "train"
        if index < 5:
            return "test"
        return "validation" if index < 10 and self.test == "validation" else "train"


@lru_cache(maxsize=2)
def _commands(folder: Path, known: str | None) -> Listing:
    splits = {}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        try:
            splits |= dict.fromkeys((folder / name).read_text().split(), split)
        except OSError as error:
            raise ValueError(f"{folder} has no {name}: it is not Speech Commands v2 as it is published") from error
    # a file that is listed and not there shall be named, so the lists count besides what lies there
    found = {path.relative_to(folder).as_posix() for word in COMMANDS for path in (folder / word).glob("*.wav")}
    names = sorted(found | splits.keys())
    words = [name.partition("/")[0] for name in names]
    if strange := set(words) - set(COMMANDS):
        raise ValueError(f"the lists in {folder} name words that are not among the 35: {', '.join(sorted(strange))}")
    return Listing(
        "speech-commands",
        [folder / name for name in names],
        torch.tensor([COMMANDS.index(word) for word in words]),
        torch.tensor([SPLITS.index(splits.get(name, "train")) for name in names]),
        known,
    )


def _recorded(folder: Path) -> list[Path]:
    """The recordings, named DIGIT_SPEAKER_INDEX."""
    paths = [path for path in sorted(folder.rglob("*_*_*")) if path.suffix.lower() in SOUND_SUFFIXES]
    if not paths:
        raise ValueError(f"{folder} has no recordings named DIGIT_SPEAKER_INDEX.wav")
    for path in paths:
        digit, _, index = path.stem.split("_")
        if not (digit in Fsdd.categories and index.isdigit()):
            raise ValueError(f"{path} is not named DIGIT_SPEAKER_INDEX.wav")
    return paths

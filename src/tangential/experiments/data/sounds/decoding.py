"""Sound files of any kind and rate as mono samples of 16 bits at one rate, decoded once and stored in the cache.

What cannot be used, because it is broken, silent or not there, is left out and told by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tangential.experiments.data.cache import cache_folder, cache_key, cached_folder

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

_VERSION = 2  # of the cached files; to be raised when they change
_AT_ONCE = 64  # files decoded before they are written: what bounds the memory


@dataclass(frozen=True, eq=False)
class Sounds:
    """Sounds one after the other.

    Args:
        samples: All of them, 16-bit integers `(sum of the lengths,)`; may lie in a file that is mapped into memory.
        lengths: Samples of each, `(count,)`; 0 for one that cannot be used.
        faults: Why not, by its number.
    """

    samples: Tensor
    lengths: Tensor
    faults: dict[int, str] = field(default_factory=dict)


def read_sound(path: Path, rate: int) -> np.ndarray:
    """Read a file of any kind that libsndfile knows: wav, flac, ogg, mp3 and others.

    Channels are averaged and another rate is changed into the one that is wanted.

    Args:
        path: The file.
        rate: Samples per second that are wanted.

    Returns:
        16-bit integers `(samples,)`.

    Raises:
        ValueError: The file cannot be read, is cut, empty or silent; the error says which. Or a package is missing.
    """
    soundfile, soxr = _libraries()
    if not path.is_file():
        raise ValueError("not there")
    if _cut(path):
        raise ValueError("cut short")
    try:
        channels, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise ValueError(f"cannot be read: {_reason(error, path)}") from error
    mono = channels.mean(axis=1)
    if not len(mono):
        raise ValueError("empty")
    if not np.isfinite(mono).all():
        raise ValueError("has samples that are not finite")
    if own != rate:
        mono = soxr.resample(mono, own, rate)
    whole = np.round(32768 * mono).clip(-32768, 32767).astype(np.int16)
    if not (np.abs(whole) > 1).any():  # the last of 16 bits is what dither and rounding leave of nothing
        raise ValueError("silent")
    return whole


def cached_sounds(name: str, paths: Sequence[Path], rate: int, *, known: str | None = None) -> Sounds:
    """Decode files, on all cores, or read what was decoded before.

    The result lies in the cache as a whole or not at all: two bytes per sample. A file that is replaced is decoded
    anew, with all others.

    Args:
        name: The data set, for the name of the cached folder.
        paths: The files.
        rate: Samples per second.
        known: What tells the present content of these files from any other; if not given, the names, sizes and times of
            all.

    Raises:
        ValueError: None of the files can be used.
        OSError: The disk is full or the cache cannot be written.
    """
    return _cached(name, tuple(paths), rate, known or _times(paths))


@lru_cache(maxsize=4)
def _cached(name: str, paths: tuple[Path, ...], rate: int, known: str) -> Sounds:
    folder = cache_folder() / f"{name}-{rate}-{cache_key(_VERSION, known, rate, paths)}"
    sounds = cached_folder(folder, partial(_decode, paths, rate), _opened)
    if not len(sounds.samples):
        first = next(iter(sounds.faults.items()), None)
        why = f"the first, {paths[first[0]]}: {first[1]}" if first else "there are none"
        raise ValueError(f"none of the {len(paths)} sound files of {name} can be used ({why})")
    return sounds


def _opened(folder: Path) -> Sounds | None:
    """What is stored in this folder; None if it is not there or not whole."""
    try:
        found = json.loads((folder / "sounds.json").read_text())
        lengths = torch.tensor(found["lengths"], dtype=torch.int64)
        total, path = int(lengths.sum()), folder / "samples.int16"
        if path.stat().st_size != 2 * total:
            return None
        samples = torch.from_file(str(path), shared=False, size=total, dtype=torch.int16) if total else torch.empty(0)
        return Sounds(samples, lengths, {int(number): why for number, why in found["faults"].items()})
    except (OSError, ValueError, KeyError):
        return None


def _decode(paths: Sequence[Path], rate: int, folder: Path) -> None:
    _libraries()  # else each file would be at fault
    lengths: list[int] = []
    faults: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, (folder / "samples.int16").open("wb") as file:
        for start in range(0, len(paths), _AT_ONCE):
            for sound in pool.map(lambda path: _tried(path, rate), paths[start : start + _AT_ONCE]):
                if isinstance(sound, str):
                    faults[len(lengths)] = sound
                    lengths.append(0)
                else:
                    file.write(sound.tobytes())
                    lengths.append(len(sound))
    (folder / "sounds.json").write_text(json.dumps({"lengths": lengths, "faults": faults}))
    (folder / "left-out.txt").write_text("".join(f"{paths[number]}: {why}\n" for number, why in faults.items()))


def _tried(path: Path, rate: int) -> np.ndarray | str:
    try:
        return read_sound(path, rate)
    except ValueError as error:
        return str(error)


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise ValueError("reading sounds needs soundfile and soxr: pip install 'tangential[audio]'") from error
    return soundfile, soxr


def _cut(path: Path) -> bool:
    """Whether a wav file ends before its header says, which libsndfile reads as a shorter sound."""
    with path.open("rb") as file:
        start = file.read(8)
    stated = int.from_bytes(start[4:8], "little")
    streamed = stated == 0 or stated >= 0x7FFFF000  # written before its size was known, by ffmpeg or sox
    return start[:4] == b"RIFF" and not streamed and stated + 7 > path.stat().st_size


def _reason(error: Exception, path: Path) -> str:
    text = getattr(error, "error_string", str(error)).partition("\n")[0]
    return text.replace(str(path), path.name).rstrip(".")


def _times(paths: Sequence[Path]) -> str:
    marks = []
    for path in paths:
        try:
            about = path.stat()
            marks.append(f"{about.st_size} {about.st_mtime_ns}")
        except OSError:
            marks.append("")
    return "\n".join(marks)

"""Sound files of any kind and rate as mono samples of 16 bits at one rate, decoded once and stored in the cache.

What cannot be used, because it is damaged, silent or not there, is left out, and listed by name.
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

from tangential.experiments.data.cache import cache_folder, cache_key, cached_folder, file_state
from tangential.experiments.data.faults import DataError, no_damage, printable, reason
from tangential.experiments.data.sounds.containers import is_cut

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
"""Endings of names that count as sounds, in lower case; in a folder any case will do."""

_VERSION = 2  # of the cached files; to be raised when they change
_BEYOND = 2.0  # times full scale: what a codec or a resampler may overshoot, and more
_SILENT = 2 / 32768
_FRAMES = 2**31
_RATES = (100, 10**7)
_AT_ONCE = 64  # files decoded before they are written: what bounds the memory


@dataclass(frozen=True, eq=False)
class Sounds:
    """Decoded sounds one after the other.

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

    Channels are averaged and another rate is changed into the one that is wanted. Where that goes beyond 1, by up to a
    factor of two, as lossy codecs and resampling do, the sound is made quieter; it is never clipped.

    Args:
        path: The file.
        rate: Samples per second that are wanted.

    Returns:
        16-bit integers `(samples,)`.

    Raises:
        DataError: The file cannot be read, is cut, empty, silent or out of scale; the error says which. Or a package is
            missing.
        OSError: It cannot be opened.
    """
    try:
        return _samples(path, rate)
    except _Unusable as fault:
        raise DataError(f"{path}: {fault}") from fault


class _Unusable(Exception):
    """Why a sound cannot be used, without its name."""


def _samples(path: Path, rate: int) -> np.ndarray:
    if not path.is_file():
        raise _Unusable("not there")
    cut = is_cut(path)  # opens the file too: what the machine refuses is no fault of the file
    channels, own = _decoded(path)
    if cut:
        raise _Unusable("cut short")
    _check_levels(channels)
    mono = channels.mean(axis=1)
    if own != rate:
        mono = _libraries()[1].resample(mono, own, rate)
    if (peak := np.abs(mono).max(initial=0)) > 1:
        mono *= 32767 / 32768 / peak
    whole = np.round(32768 * mono).clip(-32768, 32767).astype(np.int16)
    if not ((whole > 1) | (whole < -1)).any():  # the last of 16 bits is what dither and rounding leave of nothing
        raise _Unusable("silent")
    return whole


def _check_levels(channels: np.ndarray) -> None:
    """Refuse floats `(frames, channels)` that no sound in the scale from -1 to 1 has."""
    if not len(channels):
        raise _Unusable("empty")
    if not np.isfinite(channels).all():
        raise _Unusable("has samples that are not finite")
    if (peak := np.abs(channels).max()) > _BEYOND:
        raise _Unusable(f"goes beyond 1, to {peak:.4g}, so its scale is not known")
    # 40 dB below the channels: nothing is left but noise
    if peak > _SILENT and np.square(channels.mean(axis=1)).mean() < 1e-4 * np.square(channels).mean():
        raise _Unusable("its channels cancel each other, being of opposite phase")


def _decoded(path: Path) -> tuple[np.ndarray, int]:
    """Floats `(frames, channels)` and their rate."""
    soundfile = _libraries()[0]
    try:
        with soundfile.SoundFile(path) as file:
            stated, rate = file.frames, file.samplerate
            if stated > _FRAMES or not _RATES[0] <= rate <= _RATES[1]:
                raise _Unusable(f"cannot be read: states {stated} samples at {rate} Hz")
            channels = file.read(dtype="float32", always_2d=True)
    except (_Unusable, MemoryError):
        raise
    except Exception as error:  # LibsndfileError, RuntimeError, TypeError of raw samples, OverflowError, ...
        raise _Unusable(f"cannot be read: {_reason(error, path)}") from error
    if len(channels) < stated:
        raise _Unusable("cut short")
    return channels, rate


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
    return _cached(name, tuple(paths), rate, known or cache_key(tuple(map(file_state, paths))))


@lru_cache(maxsize=4)
def _cached(name: str, paths: tuple[Path, ...], rate: int, known: str) -> Sounds:
    folder = cache_folder() / f"{name}-{rate}-{cache_key(_VERSION, known, rate, paths)}"
    sounds = cached_folder(folder, partial(_decode, paths, rate), partial(_opened, len(paths)))
    if not len(sounds.samples):
        first = next(iter(sounds.faults.items()), None)
        why = f"the first, {paths[first[0]]}: {first[1]}" if first else "there are none"
        raise DataError(f"none of the {len(paths)} sound files of {name} can be used ({why})")
    return sounds


def _opened(count: int, folder: Path) -> Sounds | None:
    """What is stored in this folder of so many sounds; None if it is not there or not whole."""
    try:
        found = json.loads((folder / "sounds.json").read_text(encoding="utf-8"))
        lengths = torch.tensor(found["lengths"], dtype=torch.int64)
        total, path = int(lengths.sum()), folder / "samples.int16"
        if len(lengths) != count or (lengths < 0).any() or path.stat().st_size != 2 * total:
            return None
        samples = torch.from_file(str(path), shared=False, size=total, dtype=torch.int16) if total else torch.empty(0)
        return Sounds(samples, lengths, {int(number): str(why) for number, why in found["faults"].items()})
    except Exception as error:  # a damaged file fails in as many ways as JSON has types
        if no_damage(error):
            raise
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
    lines = [f"{printable(paths[number])}: {why}\n" for number, why in faults.items()]
    content = json.dumps({"lengths": lengths, "faults": faults})
    (folder / "sounds.json").write_text(content, encoding="utf-8")
    (folder / "left-out.txt").write_text("".join(lines), encoding="utf-8")


def _tried(path: Path, rate: int) -> np.ndarray | str:
    try:
        return _samples(path, rate)
    except _Unusable as fault:
        return str(fault)


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise ValueError("reading sounds needs soundfile and soxr: pip install 'tangential[audio]'") from error
    return soundfile, soxr


def _reason(error: Exception, path: Path) -> str:
    text = getattr(error, "error_string", None) or reason(error)
    return text.partition("\n")[0].replace(str(path), path.name).rstrip(".")

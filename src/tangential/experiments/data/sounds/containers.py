"""Whether a sound file ends before its headers say, which libsndfile reads as a shorter sound.

Of a wav or aiff file both the length of the whole and that of the chunk of samples are compared with the file: one of
them may have been patched. Of an ogg file the pages have to follow each other up to the one that is marked as the last.
Sizes of files that were written as a stream, by ffmpeg or sox, before their size was known, state nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

_STREAMED = 0x7FFFF000


def is_cut(path: Path) -> bool:
    """Whether a sound file ends early; False for kinds whose headers state no length, or leave it to the decoder.

    Raises:
        OSError: It cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"FORM"):
            return _short_chunks(file, size, start)
        if start[:4] == b"RF64":
            return _short_rf64(file, size)
        if start[:4] == b".snd":
            stated = int.from_bytes(start[8:12], "big")
            return stated < _STREAMED and int.from_bytes(start[4:8], "big") + stated > size
        return start[:4] == b"OggS" and _short_pages(file, size)


def _short_chunks(file: IO[bytes], size: int, start: bytes) -> bool:
    """A wav file (RIFF) or an aiff file (FORM): chunks of a name of four bytes, a length, and as many bytes."""
    order, samples = ("little", b"data") if start[:4] == b"RIFF" else ("big", b"SSND")
    whole = int.from_bytes(start[4:8], order)  # type: ignore[arg-type]
    if 0 < whole < _STREAMED and whole + 7 > size:  # a last byte that only fills up may be missing
        return True
    place = 12
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        place += 8
        if head[:4] == samples:
            return length < _STREAMED and place + length > size
        place += length + length % 2
        file.seek(place)
    return False  # without samples: the decoder's to refuse


def _short_rf64(file: IO[bytes], size: int) -> bool:
    """A wav file beyond 4 GB: its lengths stand in a first chunk `ds64`."""
    head = file.read(24)
    return head[:4] == b"ds64" and int.from_bytes(head[16:24], "little") > size


def _short_pages(file: IO[bytes], size: int) -> bool:
    """An ogg file: pages with a head of 27 bytes, the lengths of their segments, and these."""
    place, last = 0, False
    while place < size:
        file.seek(place)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return True
        last = bool(head[5] & 4)
        place += 27 + head[26] + sum(file.read(head[26]))
    return not last or place != size

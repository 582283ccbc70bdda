"""Folders and lists as they are found on disks: hidden files, links, other encodings, line ends and blank lines.

`find_files` lists a folder. Hidden files and folders, such as macOS and Jupyter leave, are left out. Links are
followed, but not into a folder that is listed anyway, which also ends loops. `read_lines` reads a list or a table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tangential.experiments.data.cache import file_state
from tangential.experiments.data.faults import DataError, no_damage, reason

_HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN")
"""What systems leave in folders and does not begin with a dot."""

_FRESH = 10**8
"""Nanoseconds within which a folder may change twice without another time of change."""

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, eq=False)
class FileList:
    """The files of a folder and its subfolders.

    Args:
        paths: The files, sorted by folder, then by name.
        left_out: A line on each that was left out: its name below the folder and why.
        others: Names, below the folder, of files that end in another suffix.
        folders: Path, size and time of each folder that was read.
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[tuple[str, int, int], ...]


_lists: dict[tuple[str, tuple[str, ...]], FileList] = {}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system: `._a.png`, `.ipynb_checkpoints`, `Thumbs.db`."""
    return name.startswith(".") or name in _HIDDEN


def find_files(folder: Path | str, suffixes: Sequence[str]) -> FileList:
    """List the files of a folder and its subfolders that end in a suffix, in upper or lower case.

    A list is used again as long as none of the folders has changed.

    Raises:
        DataError: The folder is not there or no folder.
        OSError: It cannot be read.
    """
    key = (os.fspath(folder), tuple(suffixes))
    known = _lists.get(key)
    if known and all(file_state(state[0]) == state for state in known.folders):
        return known
    found = _find(*key)
    _lists.pop(key, None)
    if time.time_ns() - max(state[2] for state in found.folders) > _FRESH:
        _lists[key] = found
        while len(_lists) > 64:
            _lists.pop(next(iter(_lists)))
    return found


def _find(folder: str, suffixes: tuple[str, ...]) -> FileList:
    walk = _Walk(folder, suffixes)
    while walk.pending:
        walk.read(*walk.pending.pop())
    paths = tuple(path for where in sorted(walk.paths) for path in sorted(walk.paths[where]))
    return FileList(paths, tuple(sorted(walk.left_out)), tuple(sorted(walk.others)), tuple(walk.states))


class _Walk:
    """A folder and its subfolders while they are read; `pending` are those that are still to be."""

    def __init__(self, folder: str, suffixes: tuple[str, ...]) -> None:
        self.pending = [(folder, "")]
        self.paths: dict[str, list[str]] = {}
        self.left_out: list[str] = []
        self.others: list[str] = []
        self.states: list[tuple[str, int, int]] = []
        self._suffixes = suffixes
        self._top = os.path.realpath(folder)
        self._seen = {self._top}

    def read(self, folder: str, below: str) -> None:
        """Read one folder; `below` is its name below the first one, with a slash at its end."""
        self.states.append(file_state(folder))
        self.paths[folder] = []
        for entry in _entries(folder):
            name = below + entry.name
            counts = entry.name.lower().endswith(self._suffixes)
            if is_hidden(entry.name):
                if counts or _is_folder(entry):
                    self.left_out.append(f"{name} (hidden)")
            elif _is_folder(entry):
                self._enter(entry, name)
            elif not counts:
                self.others.append(name)
            elif not _is_file(entry):
                self.left_out.append(f"{name} (a link to nothing, or no file)")
            else:
                self.paths[folder].append(entry.path)

    def _enter(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if target in self._seen or _inside(target, self._top) or _inside(self._top, target):
                self.left_out.append(f"{name} (a link to a folder that is listed already)")
                return
            self._seen.add(target)
        self.pending.append((entry.path, f"{name}/"))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is not a folder ({reason(error)})") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def without_suffix(name: str, suffixes: Sequence[str]) -> str:
    """Name without its ending, if that is one of these suffixes in upper or lower case; a name may have other dots.

    Examples:
        >>> without_suffix("a_0.000_10.000.WAV", (".wav",)), without_suffix("a_0.000_10.000", (".wav",))
        ('a_0.000_10.000', 'a_0.000_10.000')
    """
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def missing_files(paths: Sequence[Path | str]) -> list[str]:
    """Those of many files that are not there; each folder is read once, so that links are not looked behind."""
    present: dict[str, set[str]] = {}
    missing: list[str] = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in present:
            present[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208
        if name not in present[folder]:
            missing.append(os.fspath(path))
    return missing


def read_text(path: Path) -> str:
    """Read a list or a table: text in UTF-8, with a byte order mark or without, or in UTF-16 with one.

    Line ends become newlines.

    Raises:
        DataError: The file is not there, no file, not such a text, or has zero bytes in it.
        OSError: It cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        if no_damage(error):
            raise
        raise DataError(f"{path} cannot be read ({reason(error)})") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); convert it, or get it again"
        ) from error
    if "\0" in text:
        raise DataError(f"{path} has zero bytes in it, so it is no text or damaged; get it again")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read the lines of a list with their numbers from 1, without those that are blank; see `read_text`.

    White space at the end of a line is cut off, within a line it is left as it is.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip()

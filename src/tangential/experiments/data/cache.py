"""The cache of decoded data: tensors and folders that took long to compute, under names that state what they are of.

A name holds a hash of all that the content depends on: the sources (path, size, time), the settings and the version of
the code that computes it (`cache_key`). So an entry is never stale; a source that changes gets another entry. An entry
appears as a whole or not at all: it is written under a name of its own beside its place, flushed, and renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import NamedTemporaryFile, mkdtemp
from typing import TypeVar
from zipfile import ZipFile

import torch
from torch import Tensor

from tangential.experiments.data.faults import no_damage

T = TypeVar("T")

Key = str | int | float | bool | None | Path | tuple["Key", ...]


def cache_folder() -> Path:
    """Folder of what is unpacked or decoded: `$XDG_CACHE_HOME/tangential`, else `~/.cache/tangential`.

    It is made if need be. A relative `XDG_CACHE_HOME` counts for nothing, as its specification has it.

    Raises:
        OSError: It cannot be made.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME") or "").expanduser()
    folder = (named if named.is_absolute() else Path.home() / ".cache") / "tangential"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_key(*parts: Key) -> str:
    """Hash of all that a cached value depends on, twelve hexadecimal digits for its name.

    Examples:
        >>> cache_key("decoded", 1, (Path("a.png"), 200)) == cache_key("decoded", 1, (Path("a.png"), 201))
        False
    """
    return sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:12]


def file_state(path: Path | str) -> tuple[str, int, int]:
    """Path, size and time of change of a file; -1 for one that is not there. They differ whenever its content does.

    Raises:
        OSError: It cannot be looked at, for another reason than that it is not there.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return os.fspath(path), -1, -1
    return os.fspath(path), status.st_size, status.st_mtime_ns


def cached_tensor(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Read a tensor from the cache, or compute it and store it; a file that is damaged is computed anew.

    Raises:
        OSError: The disk is full, the folder cannot be written, or the file cannot be opened.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "ones.pt"
        >>> torch.equal(cached_tensor(path, lambda: torch.ones(2)), cached_tensor(path, lambda: torch.zeros(2)))
        True
    """
    try:
        with path.open("rb") as file:
            with ZipFile(file) as archive:  # what torch saves; it does not compare the checksums by itself
                damaged = archive.testzip()
            file.seek(0)
            stored = None if damaged else torch.load(file, weights_only=True)
        if isinstance(stored, Tensor):
            return stored
    except FileNotFoundError:
        pass
    except Exception as error:  # a cut or foreign file fails in as many ways as pickle, zip and torch have
        if no_damage(error):
            raise
    tensor = compute()
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            torch.save(tensor, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)
    return tensor


def cached_folder(folder: Path, fill: Callable[[Path], None], opened: Callable[[Path], T | None]) -> T:
    """Open a folder of the cache, or fill one and put it there.

    Args:
        folder: Its place, in `cache_folder()`.
        fill: Writes the files into an empty folder.
        opened: Reads a folder; None if it is not there or not whole, which makes it be filled anew.

    Raises:
        OSError: The disk is full or the cache cannot be written. Also what `fill` raises.
    """
    if (found := opened(folder)) is not None:
        return found
    part = Path(mkdtemp(dir=folder.parent, suffix=".part"))
    try:
        fill(part)
        rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError:
        if opened(folder) is None:  # else another process was faster
            raise
    finally:
        rmtree(part, ignore_errors=True)
    found = opened(folder)
    assert found is not None
    return found

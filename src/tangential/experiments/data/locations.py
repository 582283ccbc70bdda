"""Where data sets lie: under `TANGENTIAL_DATA` or a recipe's `data.root=`, plain or packed."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

from tangential.experiments.data.cache import cache_folder, cache_key, cached_folder, file_state

VARIABLE = "TANGENTIAL_DATA"


def locate(root: str | None, *names: str, get: str, size: str) -> Path:
    """Find a data set.

    Args:
        root: The folder of the data sets; None for the one that the environment variable `TANGENTIAL_DATA` names.
        names: Where the data set may lie in it, the best first: folders or files, e.g. `mnist/train-images.gz`.
        get: Where to get it, for the error.
        size: How large it is, for the error: `11 MB`.

    Returns:
        The first of `names` that is there.

    Raises:
        ValueError: None of them is there. The line says what is missing, where to get it, its size and where to put it.

    Example:
        >>> locate("/nowhere", "mnist", get="https://yann.lecun.com/exdb/mnist", size="11 MB")
        Traceback (most recent call last):
        ...
        ValueError: no mnist in /nowhere; get it from https://yann.lecun.com/exdb/mnist (11 MB) and put it there
    """
    folder = root or os.environ.get(VARIABLE)
    if folder is None:
        raise ValueError(
            f"no folder of data sets; get {names[0]} from {get} ({size}), put it in a folder and name the folder with "
            f"task.data.root=FOLDER or {VARIABLE}"
        )
    for name in names:
        if (path := Path(folder) / name).exists():
            return path
    raise ValueError(f"no {names[0]} in {folder}; get it from {get} ({size}) and put it there")


def unpacked(archive: Path) -> Path:
    """Unpack a tar or zip file into the cache, once, and give the folder it lies in.

    The folder is named after the archive's path, size and time, so a changed file is unpacked anew, and it appears as a
    whole or not at all, whatever is killed or runs at the same time. The cache is `$XDG_CACHE_HOME/tangential`, else
    `~/.cache/tangential`.

    Raises:
        ValueError: The file is not an archive, is cut, or holds a path that leads out of the folder.
        OSError: The disk is full or the cache cannot be written.
    """
    mark = cache_key("archive", file_state(archive.resolve()))
    folder = cache_folder() / f"{archive.name.partition('.')[0]}-{mark}"
    try:
        return cached_folder(folder, lambda part: _unpack(archive, part), lambda part: part if part.is_dir() else None)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        why = (str(error) or type(error).__name__).partition("\n")[0].rstrip(":")
        raise ValueError(f"{archive} cannot be unpacked ({why}); get it again") from error


def _unpack(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)  # zipfile itself drops leading slashes and parent steps
    else:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")

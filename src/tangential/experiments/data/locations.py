"""Where data sets lie: under `TANGENTIAL_DATA` or a recipe's `data.root=`, as folders or packed in an archive."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from tangential.experiments.data.cache import cache_folder, cache_key, cached_folder, file_state
from tangential.experiments.data.faults import DataError, no_damage, reason

VARIABLE = "TANGENTIAL_DATA"

_BLOCK = 512  # bytes of a tar file's headers


class MissingData(ValueError):
    """A data set is not there.

    Args:
        line: What is missing, where to get it and where to put it.
        names: Where it may lie in the folder of the data sets.
        size: How large it is.
    """

    def __init__(self, line: str, names: tuple[str, ...] = (), size: str = ""):
        super().__init__(line)
        self.names = names
        self.size = size


def data_folder(root: str | None) -> Path | None:
    """Folder of the data sets; None if none is named.

    Args:
        root: Its path, `~` being the home folder; None for the one that the environment variable `TANGENTIAL_DATA`
            names.

    Raises:
        ValueError: The path is empty, which would be whatever folder the command is run in.
    """
    named = os.environ.get(VARIABLE) if root is None else root
    if named is None:
        return None
    if not named.strip():
        where = VARIABLE if root is None else "task.data.root"
        raise ValueError(f"{where} is empty; it has to name the folder of the data sets")
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{named}: there is no such user's home folder") from error


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
        MissingData: None of them is there: a ValueError that says what is missing, where to get it, where to put it.
        ValueError: A name is empty.

    Examples:
        >>> try:
        ...     locate("/nowhere", "mnist", get="https://yann.lecun.com/exdb/mnist", size="11 MB")
        ... except MissingData as missing:
        ...     print(missing)
        no mnist in /nowhere; get it from https://yann.lecun.com/exdb/mnist (11 MB) and put it there
    """
    if not names or not all(name.strip().strip("/") for name in names):
        raise ValueError(f"places={names}: each has to name a file or a folder in the folder of the data sets")
    folder = data_folder(root)
    if folder is None:
        raise MissingData(
            f"no folder of data sets; get {names[0]} from {get} ({size}), put it in a folder and name the folder with "
            f"task.data.root=FOLDER or {VARIABLE}",
            names,
            size,
        )
    for name in names:
        if (path := folder / name).exists():
            return path
    raise MissingData(f"no {names[0]} in {folder}; get it from {get} ({size}) and put it there", names, size)


def unpacked(archive: Path) -> Path:
    """Unpack a tar or zip file into the cache, once; the result is its folder there.

    The folder is named after the archive's path, size and time, so a changed file is unpacked anew, and it appears as a
    whole or not at all, whatever is killed or runs at the same time. The cache is `$XDG_CACHE_HOME/tangential`, else
    `~/.cache/tangential`.

    Raises:
        DataError: The file is not an archive, is damaged, cut or empty, or holds a path that leads out of the folder.
        OSError: The disk is full, the cache cannot be written, or the archive cannot be opened.
    """
    mark = cache_key("archive", 2, file_state(archive.resolve()))
    folder = cache_folder() / f"{archive.name.partition('.')[0]}-{mark}"
    try:
        found = cached_folder(folder, lambda part: _unpack(archive, part), _whole)
        if not (count := _count_of(folder)).exists():
            count.write_text(str(_files(folder)), encoding="utf-8")
        return found
    except Exception as error:  # as many kinds as there are compressions: LZMAError, zlib.error, EOFError, ...
        if no_damage(error) or isinstance(error, DataError):
            raise
        raise DataError(f"{archive} cannot be unpacked ({reason(error)}); get it again") from error


def _whole(folder: Path) -> Path | None:
    """The folder of an archive; None if it is not there, or has fewer files than it had: systems clear their caches."""
    if not folder.is_dir():
        return None
    try:
        whole = _files(folder) >= int(_count_of(folder).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return folder
    return folder if whole else None


def _count_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.files")


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _unpack(archive: Path, folder: Path) -> None:
    with archive.open("rb") as file:
        start = file.read(4)
    # by its first bytes: a tar file that ends with a zip file would pass for one
    (_unpack_zip if start[:2] == b"PK" else _unpack_tar)(archive, folder)
    if not any(folder.iterdir()):
        raise DataError(f"{archive} is an empty archive; get it again")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        names = [member.filename for member in file.infolist()]
        file.extractall(folder)  # compares checksums, and drops leading slashes and parent steps
    # a damaged length in the directory of members may swallow those that follow; its end states how many there are
    with archive.open("rb") as file:
        file.seek(max(archive.stat().st_size - 2**16 - 22, 0))
        end = file.read().rpartition(b"PK\x05\x06")[2]
    stated = int.from_bytes(end[6:8], "little")
    if len(set(names)) != len(names) or stated not in (len(names), 0xFFFF):
        raise zipfile.BadZipFile("its directory of members is damaged")


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
        # tarfile takes a damaged header, and an end at a header, for the end of the archive
        packed: IO[bytes] = file.fileobj  # type: ignore[assignment]
        packed.seek(file.offset)
        if packed.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("it breaks off, or a header in it is damaged")
        # the checksum of a compression comes last, and is compared only by reading up to it
        while packed.read(2**20):
            pass

"""Files of a run folder: one atomic writer, one appender, one reader of JSON objects, and the error for a broken file.

A folder may have been made by somebody else, who may have put links where files are written: `report.html.part` that
points at a key file would be overwritten through it. So a file is written under a fresh, unique name, which the
operating system refuses to open if anything is there (`O_EXCL`), in a folder that is opened once; then it is brought to
the disk and takes its final name by a rename, which replaces a link instead of following it. Two processes that write
the same file cannot mix: each has a name of its own, and the last rename counts.

Damage is distinguished from a failure to read: a file that cannot be opened (too many open files, no permission, no
memory) is an OSError with its name, and nobody is advised to delete it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

LARGEST = 1 << 24
"""Bytes of a JSON file that is read at once, 16 MiB: settings have a few thousand."""

PART = ".part"
"""How the name of a file ends that is not whole yet."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # Windows has the second of them
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW


def corrupt(path: Path, why: str) -> ValueError:
    """Error for a file of a run folder that cannot be used.

    Examples:
        >>> str(corrupt(Path("runs/sgd-seed0/settings.json"), "it is empty"))
        'runs/sgd-seed0/settings.json is broken (it is empty); delete runs/sgd-seed0 to train this run again'
    """
    return ValueError(f"{path} is broken ({why}); delete {path.parent} to train this run again")


def make_folder(folder: Path) -> None:
    """Folder for runs, made if need be, and tried for writing before any time is spent.

    Raises:
        ValueError: It cannot be made or written; the error says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Atomic write: whoever looks, even after a power cut, finds the old content or the new one, whole.

    Args:
        path: The file; its folder must exist. A link there is replaced, not followed.
        write: Called with the open temporary file.
        keep: A name in the same folder for the old file, if it is to be kept.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is still there.
    """
    with named(path), _opened(path.parent) as (folder, place):
        part, final = place(f"{path.name}.{secrets.token_hex(8)}{PART}"), place(path.name)
        try:
            with os.fdopen(_open_fresh(part, folder), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(final, place(keep.name), src_dir_fd=folder, dst_dir_fd=folder)
            os.replace(part, final, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            raise
        if folder is not None:
            os.fsync(folder)  # the folder's own entries


def replace_text(path: Path, text: str) -> None:
    """`replace_file` for a text, in UTF-8.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is still there.
    """
    replace_file(path, lambda file: file.write(text.encode()))


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """`replace_file` for a JSON object.

    Raises:
        ValueError: A value that JSON has no number for (NaN, infinity).
        OSError: The disk is full or the folder cannot be written; the old file is still there.
    """
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append a JSON object as a line; it is on the disk when this returns.

    Raises:
        ValueError: A value that JSON has no number for (NaN, infinity).
        OSError: The disk is full, the folder cannot be written, or the file is a link.
    """
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    with named(path), os.fdopen(open_unlinked(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def open_unlinked(path: Path, flags: int) -> int:
    """Open a file that is written in place, making it if need be; a link is refused, not followed.

    Raises:
        OSError: The file cannot be opened, or is a link.
    """
    try:
        return os.open(path, flags | os.O_CREAT | _NO_FOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a link, and links are not written through", str(path)) from error
        raise


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: The file is missing, too large, no regular file, or holds something else.
        OSError: It cannot be read, which is no damage.
    """
    if not path.exists():
        raise corrupt(path, "it is missing")
    if not path.is_file():  # a pipe would be waited for
        raise corrupt(path, "it is not a regular file")
    if path.stat().st_size > LARGEST:
        raise corrupt(path, f"it is larger than {LARGEST >> 20} MiB")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(value, dict):
        raise corrupt(path, "it does not hold an object")
    return value


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[int | None, Callable[[str], str]]]:
    """Handle of an open folder, and what a name in it is called beside that handle.

    What is renamed through the handle stays in this folder, wherever its path points by then. Windows opens no folders,
    and puts their entries on the disk by itself.
    """
    if os.open not in os.supports_dir_fd:
        yield None, lambda name: str(folder / name)
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle, lambda name: name
    finally:
        os.close(handle)


def _open_fresh(name: str, folder: int | None) -> int:
    return os.open(name, _FRESH, 0o666, dir_fd=folder)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in an error that does not, as that of a full disk, or that names the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno and (not error.filename or str(error.filename).endswith(PART)):
            error.filename = str(path)
        raise

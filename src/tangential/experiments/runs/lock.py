"""Lock of a run folder: one writer at a time, by a lock of the operating system that ends with its process.

Of the locks that Unix has, that of an open file description (OFD, Linux) fits best. The classic `lockf` belongs to the
process: it is lost when any part of the process opens and closes the file, and a second lock in the same process
succeeds. An OFD lock belongs to what was opened. It would pass to forked processes, such as workers of a dataloader,
which may outlive a killed trainer by seconds; so a child closes the file at once. Elsewhere `lockf` has to do.

The text in the file names the holder, for the message to a process that is refused; it decides nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tangential.experiments.runs.files import named, open_unlinked

LOCK = "lock"

_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_log = logging.getLogger("tangential")
_open: dict[int, tuple[int, int]] = {}
"""Descriptors of the locks that this process holds, and the device and inode of each file."""


class Held(ValueError):
    """A folder that another process, or this one, holds."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone while the block runs.

    Where the file system has no locks, a warning is logged and the block runs all the same.

    Args:
        folder: It must exist.

    Raises:
        Held: Another process holds it, or this one; the error says which, on which machine.
        OSError: The folder cannot be written.
    """
    path = folder / LOCK
    if _identity(path) in _open.values():  # not even opened: where locks belong to processes, closing it would free it
        raise Held(f"{folder} is being written by this process already; wait for it, or choose another --out")
    file = open_unlinked(path, os.O_RDWR)
    _open[file] = _identity(path)
    try:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _HELD:
                raise Held(
                    f"{folder} is being written by {_holder(file)}; wait for it, or choose another --out"
                ) from error
            _log.warning(
                "%s cannot be locked (%s); make sure that no other process trains there", path, error.strerror or error
            )
        with named(path):
            _sign(file)
        yield
    finally:
        _open.pop(file, None)
        with suppress(OSError):  # closed already in a forked process
            os.close(file)


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of a file, zeros if there is none."""
    with suppress(OSError):
        found = path.stat(follow_symlinks=False)
        return found.st_dev, found.st_ino
    return 0, 0


def _holder(file: int) -> str:
    """Who signed the file, unless that process is gone and another has not signed yet."""
    with suppress(OSError, ValueError):
        text = os.pread(file, 200, 0).decode(errors="replace") if hasattr(os, "pread") else ""
        _, number, _, host = text.split()
        if host == socket.gethostname():
            os.kill(int(number), 0)
        return f"process {int(number)} on {''.join(c for c in host if c.isprintable())}"
    return "another process"


def _sign(file: int) -> None:
    if os.fstat(file).st_nlink > 1:  # another name of somebody's file, which is not ours to write
        return
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 2**30, os.SEEK_SET)  # a byte that nobody reads, for Windows forbids reading what is locked
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl
    import struct

    def _lock(file: int) -> None:
        if hasattr(fcntl, "F_OFD_SETLK"):
            whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # `struct flock`: all of the file
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:  # the error of a kernel or a file system without them
                    raise
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _close_all() -> None:
        for file in _open:
            with suppress(OSError):
                os.close(file)
        _open.clear()

    os.register_at_fork(after_in_child=_close_all)

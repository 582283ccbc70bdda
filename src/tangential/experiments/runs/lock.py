"""One writer to a run folder: a lock of the operating system, which a killed process cannot leave behind."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone while the block runs.

    Args:
        folder: It must exist.

    Raises:
        ValueError: Another process holds it; the error says which, on which machine.
        OSError: The folder cannot be written.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(f"{folder} is being written by {holder}; wait for it, or choose another --out") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(2**30)  # a byte that nobody reads, for Windows forbids reading what is locked
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        # unlike flock's, this lock does not pass to forked workers, which may outlive a killed process by a moment
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

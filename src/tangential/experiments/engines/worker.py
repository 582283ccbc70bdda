"""Worker of an engine: the process that trains, what it needs, and how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Protocol

from tangential.experiments.runs.lock import Held, locked

PASSED = ("TANGENTIAL_", "PYTHONPATH", "OMP_NUM_THREADS")
"""Beginnings of the names of environment variables that workers on other machines get too."""

_STOPPED = (130, 143)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each worker needs.

    Args:
        cpus: CPU cores.
        gpus: GPUs.
        gb: Memory in GB; 0 for the cluster's default.
        minutes: Time limit of a SLURM job, which is queued again when it is reached.
    """

    cpus: int = 1
    gpus: int = 0
    gb: int = 0
    minutes: int = 60

    @staticmethod
    def of(text: str) -> Resources:
        """Resources as typed.

        Raises:
            ValueError: An unknown name, or a number out of range.

        Examples:
            >>> Resources.of("cpus=4,gpus=1")
            Resources(cpus=4, gpus=1, gb=0, minutes=60)
        """
        names = [field.name for field in fields(Resources)]
        given: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            name, _, number = part.partition("=")
            if name not in names or not number.isdecimal() or int(number) < (name in ("cpus", "minutes")):
                raise ValueError(
                    f"--per-worker {part}: must be one of {', '.join(names)} with a whole number, as cpus=4"
                )
            given[name] = int(number)
        return Resources(**given)


@dataclass(frozen=True)
class Ended:
    """How a worker ended.

    Args:
        error: What went wrong, in one line; empty if nothing did.
        killed: Whether something from outside ended it, so that another may take its place.
    """

    error: str = ""
    killed: bool = False


class Handle(Protocol):
    """A worker that was submitted."""

    def ended(self) -> Ended | None:
        """How it ended; None while it waits or runs."""
        ...

    def cancel(self) -> None:
        """Have it stop and save, if it has not ended."""
        ...

    def wait(self) -> None:
        """Wait until it has ended, after it was told to."""
        ...


Submit = Callable[["Worker", Sequence[int], Resources], Sequence[Handle]]
"""Starts a worker for each of some numbers, or queues it."""


@dataclass(frozen=True)
class Worker:
    """A command that trains until nothing is left. It can be pickled, and be called on another machine.

    Args:
        arguments: Below `tangential`.
        out: Folder of the runs. Where it is called, the launcher's lock of it must be seen.
        folder: Working directory.
        environment: Variables beside those that are there.
    """

    arguments: Sequence[str]
    out: Path
    folder: Path
    environment: Mapping[str, str]

    @staticmethod
    def here(arguments: Sequence[str], out: Path) -> Worker:
        """Worker with this process's working directory and what of its environment belongs to the package."""
        passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        return Worker(tuple(arguments), out.absolute(), Path.cwd(), passed)

    def start(self, errors: IO[bytes], **more: str) -> subprocess.Popen[bytes]:
        """Start it as a process, with its standard error in a file, and more variables in its environment."""
        command, *rest = self.arguments
        return subprocess.Popen(
            [sys.executable, "-m", "tangential", command, "--worker", str(os.getpid()), *rest],
            cwd=self.folder,
            env={**os.environ, **self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )

    def __call__(self) -> Ended:
        """Start it and wait until it ends; if the waiting is interrupted, it stops and saves first."""
        if error := self._unshared():
            return Ended(error)
        with tempfile.TemporaryFile() as errors, self.start(errors) as process:
            try:
                process.wait()
            finally:
                process.terminate()
            return ended(process, errors)

    def checkpoint(self) -> object:
        """What submitit queues again at a time limit or a preemption: the same worker."""
        from submitit.helpers import DelayedSubmission  # pyright: ignore[reportMissingImports]

        return DelayedSubmission(self)

    def _unshared(self) -> str:
        """Why this machine cannot share the runs; empty if it can."""
        try:
            with locked(self.out):
                return (
                    f"{os.uname().nodename} sees no lock of the launcher on {self.out}: the launcher has gone, or the"
                    " file system does not share locks between machines; mount one that does"
                )
        except Held:
            return "" if self.folder.is_dir() else f"{os.uname().nodename} has no {self.folder}"
        except OSError as error:
            return f"{os.uname().nodename} cannot write to {self.out} ({error.strerror}); it must be a shared folder"


def ended(process: subprocess.Popen[bytes], errors: IO[bytes]) -> Ended:
    """How a process ended, which has."""
    code = process.returncode
    if code == 0:
        return Ended()
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    if code < 0 or code in _STOPPED:
        return Ended(f"a worker was ended by signal {-code if code < 0 else code - 128}", killed=True)
    return Ended(lines[-1].removeprefix("tangential: ") if lines else f"a worker ended with exit code {code}")

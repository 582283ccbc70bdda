"""Further processes of a command on this machine, which share its runs through the locks of their folders.

A worker is the same command with `--worker`: it trains and prints nothing. One that dies frees its run, which another
process takes. When the command ends, however it ends, its workers are told to stop and save.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

_SECONDS = 60  # that a worker has to finish its step and save


class Workers:
    """Further processes, started when there is work; use it in a `with` statement, which ends them.

    Args:
        count: How many beside this process.
        arguments: Their command line, below `tangential`.
    """

    def __init__(self, count: int, arguments: Sequence[str]) -> None:
        self._count = count
        self._command = [sys.executable, "-m", "tangential", *arguments]
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        return self

    def start(self) -> None:
        """Start them, unless they were started already."""
        while len(self._started) < self._count:
            nowhere = subprocess.DEVNULL  # errors too: this process meets them all
            self._started.append(subprocess.Popen(self._command, stdout=nowhere, stderr=nowhere))

    def __exit__(self, *error: object) -> None:
        for each in self._started:
            each.terminate()
        for each in self._started:
            try:
                each.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


def processes(threads: int) -> int:
    """Number of processes with so many threads that this machine has CPUs for; 1 where a GPU does the work.

    Examples:
        >>> processes(threads=10_000)
        1
    """
    if torch.accelerator.is_available():
        return 1
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // threads)

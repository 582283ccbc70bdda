"""Workers of a command: how many, where, and what a process does that is one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from tangential.experiments.engines import Engine
from tangential.experiments.engines.worker import Resources, Worker
from tangential.experiments.engines.workers import Workers

_LOOK = 1.0  # seconds between two looks at the process that started a worker


def workers(
    engine: Engine, count: int, *, per_worker: str, out: Path, worker: int | None, devices: int | None = None
) -> Workers:
    """Workers beside this process: none if it is one itself.

    Args:
        engine: Where they run.
        count: How many processes train, this one included if it does.
        per_worker: What each needs, as typed.
        out: Folder of the runs.
        worker: The process that started this one as a worker, if one did.
        devices: Processes of each run.

    Raises:
        ValueError: Resources that cannot be read, or processes that torchrun started.
    """
    resources = Resources.of(per_worker)
    command = Worker.here(sys.argv[1:], out)
    if worker is not None:
        _follow(worker)
        return Workers("local", 0, command, resources, trains=True)
    alone = engine == "local" and count == 1 and not resources.gpus
    if not alone and torch.distributed.is_torchelastic_launched():
        raise ValueError("--workers and --engine start processes, and so does torchrun; give --devices instead")
    trains = alone or (engine == "local" and not resources.gpus and (devices or 1) == 1)
    return Workers(engine, count - trains, command, resources, trains=trains)


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


def _follow(parent: int) -> None:
    """Stop and save when the process that started this one is gone: nobody would wait for what it does.

    The further processes of a run on several devices belong to the first one, and Windows has no parents to look at.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.get("LOCAL_RANK", "0") == "0" and sys.platform != "win32":
        threading.Thread(target=look, daemon=True).start()

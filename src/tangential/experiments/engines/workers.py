"""The workers of a command: started when there is work, replaced when they are killed, and ended with the command."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

from tangential.experiments.engines import Engine, processes, ray_cluster, slurm_jobs
from tangential.experiments.engines.worker import Handle, Resources, Submit, Worker
from tangential.experiments.runs.lock import locked

_SUBMIT: Mapping[Engine, Submit] = {"local": processes.submit, "ray": ray_cluster.submit, "slurm": slurm_jobs.submit}

REPLACED = 100
"""How many killed workers are replaced. Machines come and go; a worker that is killed each time ends the command."""


GRACE = 5.0
"""Seconds in which workers end by themselves when all is done; then they are told to."""


class Workers:
    """Workers beside this process; use it in a `with` statement, which ends them.

    On several machines this process holds the lock of the folder meanwhile, by which workers notice whether they see
    the same folder and its locks.

    Args:
        engine: Where they run.
        count: How many.
        worker: The command of each.
        resources: What each needs.
        trains: Whether this process trains too; else it waits for them.
    """

    def __init__(self, engine: Engine, count: int, worker: Worker, resources: Resources, *, trains: bool) -> None:
        self.trains = trains
        self._submit = _SUBMIT[engine]
        self._apart = engine != "local"
        self.count = count
        self._worker = worker
        self._resources = resources
        self._replaced = 0
        self._handles: list[Handle] = []
        self._held = ExitStack()

    def __enter__(self) -> Workers:
        return self

    def start(self) -> None:
        """Start them, unless they were started already."""
        if not self._handles and self.count:
            if self._apart:
                self._held.enter_context(locked(self._worker.out))
            self._handles = list(self._submit(self._worker, range(self.count), self._resources))

    def check(self) -> None:
        """Replace workers that were killed.

        Raises:
            ValueError: A worker failed, or workers are killed again and again.
        """
        for number, handle in enumerate(self._handles):
            ended = handle.ended()
            if ended is None or not ended.error:
                continue
            if not ended.killed or self._replaced >= REPLACED:
                raise ValueError(f"{ended.error} (worker {number + 1} of {self.count})")
            self._replaced += 1
            (self._handles[number],) = self._submit(self._worker, [number], self._resources)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._held:
            until = time.monotonic() + (GRACE if kind is None else 0)
            while (left := [each for each in self._handles if each.ended() is None]) and time.monotonic() < until:
                time.sleep(0.1)
            for handle in left:
                handle.cancel()
            for handle in left:
                handle.wait()

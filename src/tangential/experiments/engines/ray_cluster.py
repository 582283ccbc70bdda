"""Workers as tasks of a Ray cluster: the one that `RAY_ADDRESS` names, the one that runs here, or a new one."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

from tangential.experiments.engines.worker import Ended, Resources, Worker

_log = logging.getLogger("tangential")


class Task:
    """A worker that Ray has placed, or will place when there is room."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def ended(self) -> Ended | None:
        """How it ended; None while it waits or runs. Of a node that is lost, Ray says so."""
        import ray  # pyright: ignore[reportMissingImports]

        if not ray.wait([self._reference], timeout=0)[0]:
            return None
        try:
            return ray.get(self._reference)
        except ray.exceptions.TaskCancelledError:
            return Ended()
        except ray.exceptions.RayError as error:
            return Ended(f"Ray lost a worker: {str(error).strip().splitlines()[0]}", killed=True)

    def cancel(self) -> None:
        """Interrupt the task, which has its process stop and save."""
        import ray  # pyright: ignore[reportMissingImports]

        ray.cancel(self._reference)

    def wait(self) -> None:
        """Wait until it has ended."""
        import ray  # pyright: ignore[reportMissingImports]

        ray.wait([self._reference], timeout=60)


def submit(worker: Worker, numbers: Sequence[int], resources: Resources) -> list[Task]:
    """Have Ray run a worker for each number."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        before = signal.getsignal(signal.SIGTERM)  # which Ray replaces by one that saves nothing
        ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": dict(worker.environment)})
        signal.signal(signal.SIGTERM, before)
    needs = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.gb << 30}
    if not any(all(node["Resources"].get(each, 0) >= needs[each] for each in needs) for node in ray.nodes()):
        _log.warning("no node of the Ray cluster has %s; the workers wait for one", resources)
    task = ray.remote(_run).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.gb << 30, max_retries=0
    )
    return [Task(task.remote(worker)) for _ in numbers]


def _run(worker: Worker) -> Ended:
    return worker()

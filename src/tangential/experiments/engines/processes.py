"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence

import torch

from tangential.experiments.engines.worker import Ended, Resources, Worker, ended

_SECONDS = 60  # that a worker has to finish its step and save


class Process:
    """A worker that is a child of this process."""

    def __init__(self, worker: Worker, **environment: str) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = worker.start(self._errors, **environment)
        self._ended: Ended | None = None

    def ended(self) -> Ended | None:
        """How it ended; None while it runs."""
        if self._ended is None and self._process.poll() is not None:
            self._ended = ended(self._process, self._errors)
            self._errors.close()
        return self._ended

    def cancel(self) -> None:
        """Have it stop and save."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended, and end it if that takes too long."""
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.ended()


def submit(worker: Worker, numbers: Sequence[int], resources: Resources) -> list[Process]:
    """Start a process for each number. They share CPUs and memory; GPUs, if they need any, each has for itself.

    Raises:
        ValueError: There are too few GPUs.
    """
    if not resources.gpus:
        return [Process(worker) for _ in numbers]
    return [Process(worker, CUDA_VISIBLE_DEVICES=own) for own in _devices(numbers, resources.gpus)]


def _devices(numbers: Sequence[int], each: int) -> list[str]:
    """The GPUs of every worker, as CUDA_VISIBLE_DEVICES has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = list(map(str, range(torch.cuda.device_count()))) if given is None else list(filter(None, given.split(",")))
    if (max(numbers) + 1) * each > len(there):
        raise ValueError(
            f"{max(numbers) + 1} workers with gpus={each} need {(max(numbers) + 1) * each} GPUs, and this machine has"
            f" {len(there)}; give fewer --workers"
        )
    return [",".join(there[number * each : (number + 1) * each]) for number in numbers]

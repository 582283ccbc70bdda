"""Workers as jobs of SLURM, one array of them, through submitit; its files lie in OUT/slurm.

What submitit does not ask for, such as partition and account, `sbatch` takes from variables: SBATCH_PARTITION=gpu.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tangential.experiments.engines.worker import Ended, Resources, Worker

CLUSTER = "slurm"
"""Executor of submitit; "local" runs the same code on this machine, for tests."""

TIMEOUTS = 1000
"""How often a worker is queued again at its time limit."""


class Job:
    """A worker that SLURM has started, or will start when its turn comes."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def ended(self) -> Ended | None:
        """How it ended; None while it waits or runs."""
        from submitit.core.utils import UncompletedJobError  # pyright: ignore[reportMissingImports]

        if not self._job.done():
            return None
        try:
            return self._job.result()
        except UncompletedJobError:  # no result: killed, or its node was lost
            return Ended(f"SLURM lost job {self._job.job_id}; its log is {self._job.paths.stderr}", killed=True)

    def cancel(self) -> None:
        """Have SLURM end it: its process gets SIGTERM, stops and saves."""
        self._job.cancel(check=False)

    def wait(self) -> None:
        """Leave it to SLURM, which ends what was cancelled."""


def affinity() -> bool:
    """Whether there is a SLURM here."""
    import submitit  # pyright: ignore[reportMissingImports]

    return submitit.SlurmExecutor.affinity() > 0


def submit(worker: Worker, numbers: Sequence[int], resources: Resources) -> list[Job]:
    """Submit a job for each number.

    Raises:
        ValueError: There is no SLURM here.
    """
    import submitit  # pyright: ignore[reportMissingImports]

    if CLUSTER == "slurm" and not affinity():
        raise ValueError(
            "--engine slurm: `srun` is not found here; run on a node of the cluster, or take --engine local"
        )
    executor = submitit.AutoExecutor(worker.out / "slurm", CLUSTER, **{f"{CLUSTER}_max_num_timeout": TIMEOUTS})
    executor.update_parameters(
        name="tangential",
        timeout_min=resources.minutes,
        cpus_per_task=resources.cpus,
        gpus_per_node=resources.gpus,
        mem_gb=resources.gb or None,
    )
    with executor.batch():
        jobs = [executor.submit(worker) for _ in numbers]
    return [Job(job) for job in jobs]

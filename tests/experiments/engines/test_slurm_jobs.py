"""Jobs of SLURM, through the executor of submitit that runs the same code on this machine."""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.killed_runs import when_under_way
from support.run_bits import bits
from tangential.cli import app as cli
from tangential.experiments.engines import slurm_jobs
from tangential.experiments.engines.worker import Resources, Worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is not installed; `make engines` runs this"),
    pytest.mark.filterwarnings("ignore"),  # submitit leaves the end of its local processes to the garbage collector
]

TRAIN = ("train", "digits", "--smoke", "epochs=40", "--only", "sgd", "--only", "adamp", "--logger", "none")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    return ended.value.code


def test_without_slurm_it_is_refused(tmp_path, monkeypatch):
    if slurm_jobs.affinity():
        pytest.skip("there is a SLURM here")
    with pytest.raises(ValueError, match="`srun` is not found here"):
        slurm_jobs.submit(Worker.here(["train"], tmp_path), [0], Resources())


def test_a_job_that_is_preempted_is_queued_again_and_loses_no_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_jobs, "CLUSTER", "local")

    def preempt(metrics):
        worker = metrics.with_name("lock").read_text().split()[1]
        job = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]  # its parent
        os.kill(int(job), signal.SIGUSR2)

    with when_under_way(tmp_path / "jobs", preempt):
        assert run(monkeypatch, *TRAIN, "--engine", "slurm", "--workers", 2, "--out", tmp_path / "jobs") == 0
    assert run(monkeypatch, *TRAIN, "--out", tmp_path / "alone") == 0
    assert bits(tmp_path / "jobs") == bits(tmp_path / "alone")
    logs = "".join(path.read_text() for path in (tmp_path / "jobs" / "slurm").glob("*_log.*"))
    assert logs.count("Requeued job") == 1, logs

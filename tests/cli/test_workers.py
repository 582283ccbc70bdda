"""Workers of a command on one machine: killed or not, they end with what a single process finds."""

import json
import re

import pytest

from support.killed_runs import kill, when_under_way
from support.run_bits import bits
from tangential.experiments.engines import workers
from tangential.experiments.engines.worker import Ended, Resources, Worker
from tangential.experiments.runs.lock import locked

TRAIN = ("train", "digits", "--smoke", "epochs=40", "--only", "sgd", "--only", "sgdp", "--logger", "none")
TRAIN += ("--seeds", "1", "--accelerator", "cpu")
SWEEP = ("sweep", "digits", "--smoke", "optimizers.sgd.lr=1e-3..1", "optimizers.sgdp.lr=1e-3..1", "--trials", "4")
COMPARE = ("compare", "digits", "--smoke", "--only", "sgdp", "optimizers.*.lr=0.01..1", "--trials", "3", "--seeds", "2")


def numbers(table):
    """Lines of a printed table that say which settings are best."""
    return re.findall(r"^sgdp? +[\d.]+ +\d+ +optimizers.*", table, re.MULTILINE)


@pytest.mark.slow
def test_runs_of_a_killed_worker_go_on_from_their_checkpoint(tmp_path, tangential, monkeypatch):
    assert tangential(*TRAIN, "--out", tmp_path / "one")[0] == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # each worker has a GPU to itself, so this process only waits
    two = tmp_path / "two"
    with when_under_way(two, kill):
        code, out, err = tangential(*TRAIN, "--out", two, "--workers", 2, "--per-worker", "gpus=1")
    assert (code, err) == (0, "")
    assert bits(two) == bits(tmp_path / "one")
    assert len(re.findall(r"^sgdp? +\d +40/40 ", out, re.MULTILINE)) == 2
    assert (two / "report.html").exists()
    started = {json.loads(path.read_text())["command"] for path in two.glob("*/environment.json")}
    assert len(started) == 1 and "--worker " not in started.pop()


@pytest.mark.slow
@pytest.mark.parametrize(("small", "count"), [(SWEEP, 1), (COMPARE, 2)], ids=["sweep", "compare"])
def test_workers_find_what_the_command_finds_alone(tmp_path, tangential, monkeypatch, small, count):
    code, alone, _ = tangential(*small, "--out", tmp_path / "one", "--workers", 1)
    assert code == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    code, both, err = tangential(*small, "--out", tmp_path / "two", "--workers", count, "--per-worker", "gpus=1")
    assert (code, err) == (0, "")
    assert bits(tmp_path / "one") == bits(tmp_path / "two")
    assert numbers(alone) == numbers(both)
    by = {json.loads(path.read_text())["command"] for path in (tmp_path / "two").rglob("environment.json")}
    assert all("--worker " not in each for each in by)
    for name in ("comparison.html", "comparison.json") if small is COMPARE else ("sweep.db",):
        assert (tmp_path / "two" / name).exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--per-worker", "cpus=0"), "--per-worker cpus=0: must be one of cpus, gpus, gb, minutes with a whole number"),
        (("--per-worker", "tpus=1"), "--per-worker tpus=1: must be one of"),
        (("--workers", 3, "--per-worker", "gpus=1"), "3 workers with gpus=1 need 3 GPUs, and this machine has 2"),
        (("--workers", 2, "--engine", "slurm"), "SQLite is for the processes of one machine"),
        (("--workers", 2, "--storage", "sqlite://"), "a database in memory is seen by one process alone"),
    ],
)
def test_workers_that_cannot_be_had_are_one_line(tmp_path, tangential, monkeypatch, more, says):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    code, _, err = tangential(*SWEEP, *more, "--out", tmp_path)
    assert code == 2 and says in err and err.count("\n") == 1


class Script:
    """An engine whose workers end as they are told."""

    def __init__(self, *ends):
        self.ends, self.started, self.cancelled = list(ends), [], 0

    def submit(self, worker, numbers, resources):
        self.started += numbers
        return [self] * len(numbers)

    def ended(self):
        return self.ends.pop(0) if self.ends else None

    def cancel(self):
        self.cancelled += 1

    def wait(self):
        pass


def crew(tmp_path, monkeypatch, *ends, count=2):
    script = Script(*ends)
    monkeypatch.setitem(workers._SUBMIT, "slurm", script.submit)
    monkeypatch.setattr(workers, "GRACE", 0.0)
    return script, workers.Workers("slurm", count, Worker.here(["train"], tmp_path), Resources(), trains=False)


def test_a_killed_worker_is_replaced_under_its_number_and_a_failed_one_ends_the_command(tmp_path, monkeypatch):
    lost = Ended("its node was lost", killed=True)
    script, others = crew(tmp_path, monkeypatch, None, lost, Ended(), Ended("no such file"))
    with others, pytest.raises(ValueError, match=r"no such file .worker 2 of 2."):
        others.start()
        others.check()
        assert script.started == [0, 1, 1]
        others.check()
    assert script.cancelled == 2
    script, others = crew(tmp_path, monkeypatch, *[lost] * 1000)
    with pytest.raises(ValueError, match="its node was lost"), others:
        others.start()
        for _ in range(1000):
            others.check()
    assert len(script.started) == 2 + workers.REPLACED


def test_a_worker_elsewhere_must_see_the_lock_of_its_launcher(tmp_path, monkeypatch):
    worker = Worker.here(["train"], tmp_path)
    assert "sees no lock of the launcher" in worker().error
    assert "must be a shared folder" in Worker.here(["train"], tmp_path / "nowhere")().error
    with locked(tmp_path):
        assert worker._unshared() == ""
    _, others = crew(tmp_path, monkeypatch)
    with others:
        others.start()
        assert worker._unshared() == ""
    assert worker._unshared()

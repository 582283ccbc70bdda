import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential.checkpoints import load_checkpoint
from tangential.runs import RunFolder
from tangential.schedules import cosine
from tangential.task import Objective
from tangential.train import Plan, Training, epochs_done, fit

TIMES = {"seconds", "ms_per_step"}


@dataclass(frozen=True)
class Noisy:
    """A task that the package does not know, with dropout, so that it draws random numbers in every step."""

    images: int = 12

    def batches(self, split, *, batch_size, order=None):
        draw = torch.Generator().manual_seed(1)
        data = TensorDataset(torch.randn(self.images, 3, generator=draw), torch.randn(self.images, 1, generator=draw))
        return DataLoader(data, batch_size=batch_size, shuffle=order is not None, generator=order)

    def model(self):
        return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def objectives(self, model):
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model, batch):
        inputs, targets = batch
        return (model(inputs) - targets).square().mean()

    def score(self, model, batches: Iterable):
        assert not model.training and not torch.is_grad_enabled()
        return {"loss": float(torch.stack([self.loss(model, batch) for batch in batches]).mean()), "accuracy": 0.5}


plan = Plan(
    task=Noisy(),
    optimizer=partial(torch.optim.SGD, lr=0.005, momentum=0.9),
    schedule=cosine,
    epochs=4,
    batch_size=4,
    seed=3,
)


def begin(path):
    folder = RunFolder(path)
    folder.start({"seed": 3}, {})
    return folder


def without_times(records):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def equal(a, b):
    """Bit for bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def assert_same_run(a, b):
    assert equal(load_checkpoint(a), load_checkpoint(b))
    assert without_times(a.metrics()) == without_times(b.metrics())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    torch.set_num_threads(1)
    folder = begin(tmp_path_factory.mktemp("undisturbed"))
    list(fit(plan, folder))
    return folder


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_stopped_run_resumes_bit_for_bit(tmp_path, undisturbed, stop):
    folder = begin(tmp_path)
    for record in fit(plan, folder):
        if record["epoch"] == stop:
            break
    torch.manual_seed(12345)  # whatever happened in between
    resumed = list(fit(plan, folder))
    assert [record["epoch"] for record in resumed] == list(range(stop + 1, 5))
    assert_same_run(folder, undisturbed)


def test_epoch_without_its_checkpoint_runs_again(tmp_path, undisturbed):
    folder = begin(tmp_path)
    for record in fit(plan, folder):
        if record["epoch"] == 2:
            break
    folder.append({"epoch": 3, "train_loss": -1.0})
    with (folder.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 4, "tr')
    list(fit(plan, folder))
    assert_same_run(folder, undisturbed)


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from test_train import Training, begin, epochs_done, fit, long_plan
torch.set_num_threads(1)
Training(long_plan).run_epoch()  # what torch imports late is then there in every child
folder, draw, kills = begin(Path(sys.argv[1])), random.Random(0), 10
for attempt in range(kills + 1):
    child = os.fork()
    if not child:
        try:
            list(fit(long_plan, folder))
        finally:
            os._exit(sys.exc_info()[0] is not None)
    if attempt < kills:
        more = len(folder.metrics()) + draw.randrange(5)
        while len(folder.metrics()) < more:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status == (signal.SIGKILL if attempt < kills else 0), (attempt, status)
    print(epochs_done(folder))
"""

long_plan = replace(plan, epochs=200)


def test_killed_run_resumes_bit_for_bit(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", KILLER, str(tmp_path / "killed"), str(Path(__file__).parent)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    assert len(set(answer.stdout.split())) > 3, "the kills should fall into different epochs"
    whole = begin(tmp_path / "whole")
    list(fit(long_plan, whole))
    assert_same_run(RunFolder(tmp_path / "killed"), whole)


def test_finished_run_trains_nothing(undisturbed):
    before = (undisturbed.checkpoint.read_bytes(), undisturbed.metrics())
    assert epochs_done(undisturbed) == plan.epochs
    assert list(fit(plan, undisturbed)) == []
    assert (undisturbed.checkpoint.read_bytes(), undisturbed.metrics()) == before


def test_metrics_on_disk_are_the_records_that_were_yielded(tmp_path):
    folder = begin(tmp_path)
    seen = []
    for record in fit(plan, folder):
        seen.append(record)
        assert folder.metrics() == seen
        assert epochs_done(folder) == len(seen)


@dataclass(frozen=True)
class Spied(Noisy):
    """Tells which batches were trained on."""

    seen: tuple = ()

    def loss(self, model, batch):
        self.seen[0].append(batch[0].clone())
        return super().loss(model, batch)


def first_weights_and_batches(optimizer, seed):
    seen = []
    training = Training(replace(plan, task=Spied(seen=(seen,)), optimizer=optimizer, seed=seed))
    weights = [parameter.detach().clone() for parameter in training.model.parameters()]
    training.run_epoch()
    return weights, seen[:3]


def test_seed_gives_every_optimizer_the_same_start_and_the_same_order():
    one = first_weights_and_batches(partial(torch.optim.SGD, lr=0.1), seed=5)
    other = first_weights_and_batches(partial(torch.optim.AdamW, lr=0.01), seed=5)
    assert equal(one, other)


def test_other_seed_gives_another_start_and_another_order():
    weights, batches = first_weights_and_batches(partial(torch.optim.SGD, lr=0.1), seed=5)
    other_weights, other_batches = first_weights_and_batches(partial(torch.optim.SGD, lr=0.1), seed=6)
    assert not equal(weights, other_weights)
    assert not equal(batches, other_batches)


def test_record_says_what_the_steps_did():
    training = Training(replace(plan, schedule=partial(cosine, end=0.5)))
    snapshots = []
    matrices = [p for p in training.model.parameters() if p.ndim > 1]

    def watch(*_):
        snapshots.append([w.detach().double().clone() for w in matrices])

    training.optimizers[""].register_step_pre_hook(watch)
    record = training.run_epoch()
    watch()
    moves = [
        sum(float((new / new.norm() - old / old.norm()).norm()) for old, new in zip(before, after, strict=True)) / 2
        for before, after in pairwise(snapshots)
    ]
    assert len(moves) == 3
    assert record["effective_step"] == pytest.approx(sum(moves) / 3, rel=1e-4)  # unit vectors in float32
    assert record["weight_norm"] == pytest.approx(sum(float(w.norm()) for w in snapshots[-1]) / 2, rel=1e-6)
    assert record["lr"] == pytest.approx(0.005 * (0.5 + 0.5 * (1 + torch.cos(torch.tensor(torch.pi * 2 / 12))) / 2))
    assert list(record) == [
        *("epoch", "train_loss", "test_loss", "test_accuracy", "weight_norm", "effective_step", "lr"),
        *("seconds", "ms_per_step"),
    ]


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_epoch(tmp_path):
    @dataclass(frozen=True)
    class Diverging(Noisy):
        def loss(self, model, batch):
            calls.append(1)
            return super().loss(model, batch) * (float("nan") if len(calls) == 8 else 1.0)

    calls: list[int] = []
    folder = begin(tmp_path)
    with pytest.raises(FloatingPointError, match="train_loss became nan in epoch 2; try a smaller learning rate"):
        list(fit(replace(plan, task=Diverging()), folder))
    assert (epochs_done(folder), len(folder.metrics())) == (1, 1)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def corrupt(name, path):
    whole = path.read_bytes()
    if name == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "hostile":
        path.write_bytes(pickle.dumps(Hostile()))
    elif name == "foreign":
        torch.save([1, 2], path)
    else:
        state = torch.load(path)
        state["model"].popitem()
        torch.save(state, path)


@pytest.mark.parametrize("name", ["cut", "empty", "hostile", "foreign", "other net"])
def test_broken_checkpoint_is_named_and_nothing_is_overwritten(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = begin(tmp_path / "run")
    next(fit(plan, folder))
    corrupt(name, folder.checkpoint)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(ValueError, match=r"checkpoint\.pt is broken .*; delete .*run to train this run again"):
        list(fit(plan, folder))
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert not (tmp_path / "owned").exists()


def test_metrics_behind_the_checkpoint_are_named(tmp_path):
    folder = begin(tmp_path)
    list(fit(plan, folder))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken .*before epoch 4"):
        epochs_done(folder)


def test_schedule_ends_where_it_says():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = cosine(optimizer, 10, end=0.25)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert (rates[0], rates[10], rates[11]) == (2.0, 0.5, 0.5)
    assert rates[:11] == sorted(rates[:11], reverse=True)

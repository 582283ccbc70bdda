import errno
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from support.noisy_task import Noisy, begin, long_plan, plan
from support.paths import ROOT
from tangential.experiments.runs import files
from tangential.experiments.runs.checkpoint import load_checkpoint
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.training.open_run import epochs_done
from tangential.experiments.training.plan import TrainingOptions
from tangential.experiments.training.schedules import cosine

pytestmark = pytest.mark.slow

TIMES = {"seconds", "ms_per_step"}


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
    assert a.telemetry.read_bytes() == b.telemetry.read_bytes()


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
from support.noisy_task import begin, long_plan
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.training.open_run import epochs_done
torch.set_num_threads(1)
Training(long_plan).run_epoch()  # what torch imports late is then there in every child
folder, draw, kills = begin(Path(sys.argv[1])), random.Random(0), 10
for attempt in range(kills + 1):
    child = os.fork()
    if not child:
        try:
            list(fit(long_plan, folder, minutes=0))
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


def test_killed_run_resumes_bit_for_bit(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", KILLER, str(tmp_path / "killed"), str(ROOT / "tests")]
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
    says = r"train_loss became nan, .* gradients .*: 0\.weight, .* in step 5 \(epoch 2, batch 2 of 3\); try a smaller"
    with pytest.raises(FloatingPointError, match=says):
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
    elif name == "flipped":  # a bit of a weight, which torch would load
        data = load_checkpoint(RunFolder(path.parent))["model"]["0.weight"].numpy().tobytes()
        at = whole.index(data) + 5
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif name == "foreign":
        torch.save([1, 2], path)
    else:
        state = torch.load(path)
        state["model"].popitem()
        torch.save(state, path)


BROKEN = ["cut", "empty", "hostile", "foreign", "flipped"]


@pytest.mark.parametrize("name", [*BROKEN, "other net"])
def test_broken_only_checkpoint_is_named_and_nothing_is_overwritten(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = begin(tmp_path / "run")
    next(fit(plan, folder))
    corrupt(name, folder.checkpoint)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.name != "lock"}
    with pytest.raises(ValueError, match=r"checkpoint\.pt is broken .*; delete .*run to train this run again"):
        list(fit(plan, folder))
    assert {path.name: path.read_bytes() for path in folder.path.iterdir() if path.name != "lock"} == before
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", [*BROKEN, "missing"])
def test_run_goes_on_from_the_checkpoint_before_a_broken_one(tmp_path, monkeypatch, caplog, undisturbed, name):
    monkeypatch.chdir(tmp_path)
    folder = begin(tmp_path / "run")
    for record in fit(plan, folder):
        if record["epoch"] == 3:
            break
    if name == "missing":  # killed between the two renamings
        folder.checkpoint.unlink()
    else:
        corrupt(name, folder.checkpoint)
    assert epochs_done(folder) == 2
    assert [record["epoch"] for record in fit(plan, folder)] == [3, 4]
    assert_same_run(folder, undisturbed)
    warnings = [each.getMessage() for each in caplog.records if each.name == "tangential"]
    assert len(warnings) == (name != "missing")
    for line in warnings:
        assert "checkpoint.pt is broken" in line and "going on from checkpoint-previous.pt" in line
    assert not (tmp_path / "owned").exists()


def test_metrics_behind_the_checkpoint_are_named(tmp_path):
    folder = begin(tmp_path)
    list(fit(plan, folder))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken .*before epoch 4"):
        epochs_done(folder)


class Enough(Exception):
    pass


def stop_at(step, **options):
    """Leave a run after a step, with what was saved by then."""
    steps = []

    def count(training):
        steps.append(training.batch)
        if len(steps) == step:
            raise Enough

    return dict(progress=count, minutes=0, **options)


OPTIONS = [
    {},
    {"accumulate": 2},
    {"ema": 0.9},
    {"clip_norm": 0.5, "clip_value": 0.1},
    {"precision": "bf16-mixed"},
    {"precision": "64"},
]


@pytest.mark.parametrize(("workers", "options"), [(2, {}), *((0, options) for options in OPTIONS)], ids=str)
def test_run_left_in_the_middle_of_an_epoch_resumes_bit_for_bit(tmp_path, options, workers):
    asked = replace(plan, task=Augmented(workers=workers), epochs=2, options=TrainingOptions(**options))
    whole, folder = begin(tmp_path / "whole"), begin(tmp_path / "left")
    list(fit(asked, whole))
    for step in (2, 3):
        with pytest.raises(Enough):
            list(fit(asked, folder, **stop_at(step)))
        torch.manual_seed(12345)
    assert load_checkpoint(folder)["batch"] > 0
    list(fit(asked, folder))
    assert_same_run(folder, whole)


class Jittered(TensorDataset):
    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(3), targets


@dataclass(frozen=True)
class Augmented(Noisy):
    """Draws random numbers in every fetch."""

    workers: int = 0

    def batches(self, split, *, batch_size, generator=None):
        tensors = super().batches(split, batch_size=batch_size).dataset.tensors
        data = Jittered(*tensors) if generator is not None else TensorDataset(*tensors)
        workers = self.workers if generator is not None else 0
        return DataLoader(
            data, batch_size=batch_size, shuffle=generator is not None, generator=generator, num_workers=workers
        )


def test_augmentation_does_not_depend_on_the_workers(tmp_path):
    folders = [begin(tmp_path / str(workers)) for workers in (0, 2)]
    for workers, folder in zip((0, 2), folders, strict=True):
        list(fit(replace(plan, task=Augmented(workers=workers), epochs=2), folder))
    assert_same_run(*folders)


class Stays(Noisy):
    """Without noise and without BatchNorm, so that parts of a batch add up to the whole."""

    def model(self):
        return nn.Linear(3, 1)


@pytest.mark.parametrize("batch_size", [4, 5])
def test_accumulated_parts_step_as_the_whole_batch(batch_size):
    records = []
    for parts in (1, 2):
        asked = replace(plan, task=Stays(), batch_size=batch_size, options=TrainingOptions(accumulate=parts))
        training = Training(asked)
        records.append((training.run_epoch()["train_loss"], training.model.weight.detach().clone()))
    assert records[0][0] == pytest.approx(records[1][0], rel=1e-6)
    assert torch.allclose(records[0][1], records[1][1], rtol=1e-5, atol=1e-7)


def test_batch_that_cannot_be_shared_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match="a batch of 2 samples cannot be shared by 3"):
        Training(replace(plan, batch_size=5, options=TrainingOptions(accumulate=3)))


def test_clipping_bounds_the_gradients():
    for options, measure in (({"clip_norm": 1e-3}, torch.Tensor.norm), ({"clip_value": 1e-3}, lambda g: g.abs().max())):
        training = Training(replace(plan, task=Stays(), options=TrainingOptions(**options)))
        sizes = []
        training.optimizers[""].register_step_pre_hook(
            lambda *_, t=training, m=measure, s=sizes: s.append(
                m(torch.cat([p.grad.flatten() for p in t.model.parameters()]))
            )
        )
        training.run_epoch()
        assert all(float(size) == pytest.approx(1e-3, rel=1e-3) for size in sizes)


def test_average_is_scored_in_place_of_the_weights():
    plain, averaged = (Training(replace(plan, task=Stays(), options=TrainingOptions(ema=ema))) for ema in (None, 0.5))
    weights = [plain.model.weight.detach().clone()]
    plain.optimizers[""].register_step_post_hook(lambda *_: weights.append(plain.model.weight.detach().clone()))
    one, other = plain.run_epoch(), averaged.run_epoch()
    assert one["train_loss"] == other["train_loss"] and one["test_loss"] != other["test_loss"]
    expected = weights[1]
    for each in weights[2:]:
        expected = 0.5 * expected + 0.5 * each
    assert torch.allclose(averaged._average.module.weight, expected, rtol=1e-6)


def test_gradient_that_is_not_finite_stops_before_the_step():
    class Steep(Stays):
        def loss(self, model, batch):
            return super().loss(model, batch) + 0 * model.bias.abs().sqrt().sum()  # its slope at zero is infinite

        def model(self):
            net = nn.Linear(3, 1)
            nn.init.zeros_(net.bias)
            return net

    training = Training(replace(plan, task=Steep()))
    before = training.model.weight.detach().clone()
    with pytest.raises(
        FloatingPointError, match=r"gradients that are not finite: bias in step 1 .epoch 1, batch 1 of 3."
    ):
        training.run_epoch()
    assert torch.equal(training.model.weight, before)


def test_full_disk_is_named_and_nothing_is_lost(tmp_path, undisturbed, monkeypatch):
    folder = begin(tmp_path)
    for record in fit(plan, folder):
        if record["epoch"] == 2:
            break
    open_fresh = files._open_fresh

    def full(name, handle):
        return os.open("/dev/full", os.O_WRONLY) if name.startswith("checkpoint.pt") else open_fresh(name, handle)

    with monkeypatch.context() as patched, pytest.raises(OSError) as caught:
        patched.setattr(files, "_open_fresh", full)
        list(fit(plan, folder))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(folder.checkpoint))
    assert epochs_done(folder) == 2
    list(fit(plan, folder))
    assert_same_run(folder, undisturbed)


HOLDER = """
import sys, time
from pathlib import Path
from tangential.experiments.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_folder_that_another_process_writes_is_refused_until_that_is_killed(tmp_path):
    folder = begin(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"is being written by process {holder.pid} on .*; wait for it"):
            next(fit(plan, folder))
        holder.kill()
        holder.wait()
    assert len(list(fit(plan, folder))) == 4


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

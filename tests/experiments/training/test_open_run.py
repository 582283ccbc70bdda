"""A run is opened by one process, in an order that harms nothing; runs of version 0.1 are resumed."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.noisy_task import begin, plan
from support.paths import ROOT
from tangential.experiments.recipes import choose
from tangential.experiments.recipes.jobs import jobs
from tangential.experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.runs.lock import locked
from tangential.experiments.tasks.classification import Classification
from tangential.experiments.training.fit import fit
from tangential.experiments.training.plan import TrainingOptions
from tangential.experiments.viewers.trained_model import trained

pytestmark = pytest.mark.slow

SAVED = json.loads((ROOT / "tests" / "support" / "settings_of_0_1.json").read_text())


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != "lock"}


def test_refused_second_process_changes_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    opened = {"settings": {"seed": 3}, "loggers": ["csv", "tensorboard"]}
    next(fit(plan, folder, environment={"command": "the first"}, **opened))
    before = contents(folder)
    with locked(folder.path), pytest.raises(ValueError, match="is being written by"):
        list(fit(plan, folder, environment={"command": "the second"}, **opened))
    assert contents(folder) == before
    assert len(list(fit(plan, folder, environment={"command": "the second"}, **opened))) == 3


def test_run_of_other_settings_is_refused_and_stays(tmp_path):
    folder = begin(tmp_path)
    next(fit(plan, folder))
    before = contents(folder)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(seed: 3 there, 4 asked\); choose another"):
        list(fit(plan, folder, settings={"seed": 4}, environment={"command": "other"}))
    assert contents(folder) == before


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from support.noisy_task import plan
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training import open_run
from tangential.experiments.training.fit import fit
torch.set_num_threads(1)
save, when, calls = open_run.save_checkpoint, sys.argv[3], []
def killed(folder, state):
    calls.append(1)
    if len(calls) == 2 and when == "before":
        os._exit(9)
    save(folder, state)
    if len(calls) == 2:
        os._exit(9)
open_run.save_checkpoint = killed
list(fit(plan, RunFolder(Path(sys.argv[1])), settings={"seed": 3}, loggers=["csv", "tensorboard"]))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_beside_a_checkpoint_loses_no_record_in_any_logger(tmp_path, when):
    run = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(run), str(ROOT / "tests"), when]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 9, answer.stderr
    list(fit(plan, RunFolder(run), settings={"seed": 3}, loggers=["csv", "tensorboard"]))
    expected = [(record["epoch"], record["train_loss"]) for record in RunFolder(run).metrics()]
    assert [epoch for epoch, _ in expected] == [1, 2, 3, 4]
    with (run / "csv" / "metrics.csv").open() as file:
        assert [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file)] == expected
    events = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("train_loss")
    assert [(each.step, pytest.approx(each.value)) for each in events] == expected


def test_full_disk_under_a_logger_names_its_folder(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("lightning.fabric.loggers.csv_logs._ExperimentWriter.save", full)
    with pytest.raises(OSError) as caught:
        list(fit(plan, RunFolder(tmp_path / "run"), settings={"seed": 3}, loggers=["csv"]))
    assert caught.value.filename == str(tmp_path / "run" / "csv")


def run_of_0_1(path):
    """A run as version 0.1 left it in the middle of its first epoch, and its job now."""

    class Left(Exception):
        pass

    def leave(training):
        if training.step == 3:
            raise Left

    recipe = choose("digits", ["epochs=2", "batch_size=4"], smoke=True)
    job = jobs(recipe, path, ["adamp"])[0]
    with pytest.raises(Left):
        list(fit(job.plan, job.folder, settings=job.settings, minutes=0, progress=leave))
    settings = {**job.settings, **SAVED["digits"], **SAVED["digits smoke"]}
    (job.folder.path / "settings.json").write_text(json.dumps(settings))
    job.folder.data.unlink()
    state = load_checkpoint(job.folder)
    state["order"] = state.pop("generator")
    save_checkpoint(job.folder, state)
    return recipe, job


def test_unfinished_run_of_0_1_is_resumed_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    recipe, job = run_of_0_1(tmp_path / "old")
    assert "tangential.tasks.classification.Classification" in (job.folder.path / "settings.json").read_text()
    assert [each.done for each in jobs(recipe, tmp_path / "old", ["adamp"])] == [0]
    list(fit(job.plan, job.folder, settings=job.settings))
    whole = jobs(recipe, tmp_path / "new", ["adamp"])[0]
    list(fit(whole.plan, whole.folder, settings=whole.settings))
    ours, theirs = load_checkpoint(job.folder), load_checkpoint(whole.folder)
    assert all(map(torch.equal, ours["model"].values(), theirs["model"].values()))
    assert [r["train_loss"] for r in job.folder.metrics()] == [r["train_loss"] for r in whole.folder.metrics()]
    assert job.folder.settings() == whole.folder.settings()


def test_finished_run_of_0_1_is_looked_at(tmp_path):
    _, job = run_of_0_1(tmp_path)
    task, model = trained(job.folder, Classification, "has no classes")
    assert isinstance(task, Classification)
    assert torch.equal(model.state_dict()["0.0.weight"], load_checkpoint(job.folder)["model"]["0.0.weight"])


def test_run_that_is_scored_averaged_is_looked_at_averaged(tmp_path):
    recipe = choose("digits", ["ema=0.5"], smoke=True)
    assert recipe.options == TrainingOptions(ema=0.5)
    job = jobs(recipe, tmp_path, ["sgd"])[0]
    (record,) = fit(job.plan, job.folder, settings=job.settings)
    task, model = trained(job.folder, Classification, "has no classes")
    state = load_checkpoint(job.folder)
    assert torch.equal(model.state_dict()["0.0.weight"], state["average"]["module.0.0.weight"])
    assert not torch.equal(model.state_dict()["0.0.weight"], state["model"]["0.0.weight"])
    with torch.no_grad():
        scores = task.score(model, task.batches("test", batch_size=8))
    assert scores["loss"] == pytest.approx(record["test_loss"], rel=1e-5)


def test_settings_that_are_not_the_recipes_are_named(tmp_path):
    job = jobs(choose("digits", smoke=True), tmp_path, ["sgd"])[0]
    job.folder.start(job.settings | {"task": {"class": "tangential.holdout.HeldOut"}}, {})
    with pytest.raises(ValueError, match="its settings are not those of the recipe digits"):
        trained(job.folder, Classification, "has no classes")


def test_options_stand_flat_in_overrides_and_settings(tmp_path):
    recipe = choose("digits", ["clip_norm=1", "accumulate=2", "watch_every=0"], smoke=True)
    assert recipe.options == TrainingOptions(clip_norm=1.0, accumulate=2, watch_every=0)
    settings = recipe.settings("sgd", 0)
    assert (settings["clip_norm"], settings["accumulate"], settings["ema"]) == (1.0, 2, None)
    assert "options" not in settings
    for bad in ("options.clip_norm=1", "clip=1", "options=1"):
        with pytest.raises(ValueError, match=r"the recipe has no '(options|clip)'; it has .*clip_norm"):
            choose("digits", [bad])
    with pytest.raises(ValueError, match=r"clip_norm=0.0: must be more than 0"):
        choose("digits", ["clip_norm=0"])
    assert replace(recipe, seeds=2).options == recipe.options

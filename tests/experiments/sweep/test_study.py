"""A sweep finishes every trial exactly once, for baseline and projected optimizer alike, whoever is killed."""

import json
import sqlite3
from dataclasses import replace

import pytest
import torch
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from tangential.experiments.recipes import digits
from tangential.experiments.runs.lock import Held
from tangential.experiments.settings.overrides import override
from tangential.experiments.sweep.search_space import read_ranges
from tangential.experiments.sweep.storage import database_errors
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.tasks.classification import Classification

pytestmark = pytest.mark.slow

LR = ["optimizers.sgd.lr=1e-3..1", "optimizers.sgdp.lr=1e-3..1"]


def test_ranges_are_of_the_type_and_scale_of_their_setting():
    found = read_ranges(
        digits, ["optimizers.*.lr=1e-3..1", "batch_size=8..64", "schedule.end=0..0.5", "task.net.width=4|8"]
    )
    assert list(found) == list(digits.optimizers)
    lr, size, end, width = found["adamp"]
    assert (lr.path, lr.log, lr.whole) == ("optimizers.adamp.lr", True, False)
    assert (size.whole, size.log, end.whole, end.log, width.choices) == (True, False, False, False, ("4", "8"))


def test_star_stands_for_the_optimizers_that_have_the_setting():
    found = read_ranges(digits, ["optimizers.*.momentum=0.1..0.9"])
    assert list(found) == ["sgd", "sgdp"]


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        (["optimizers.sgdp.lr=1e-3..1"], "sgdp has ranges and sgd has none.*give optimizers.sgd.lr a range too"),
        ([], "nothing to search"),
        (["optimizers.sgd.lr=1..0.1"], "the first end must be below the second"),
        (["optimizers.sgd.lr=a..b"], "write a range as 1e-4..1e-2"),
        (["optimizers.sgd.colour=1..2"], "has no 'colour'"),
        (["optimizers.lion.lr=1..2"], "has no 'lion'"),
        (["optimizers.*.colour=1..2"], "no optimizer of the recipe has 'colour'"),
        (["epochs=1..2.5"], "expected int"),
    ],
)
def test_bad_range_is_refused(ranges, says):
    with pytest.raises(ValueError, match=says):
        read_ranges(digits, ranges)


def test_held_out_data_are_no_training_data_and_always_the_same():
    task = ValidationSplit(Classification(), share=0.25)
    order = torch.Generator().manual_seed(0)
    train, held = (
        torch.cat([images for images, _ in task.batches(split, batch_size=100, generator=o)]).flatten(1)
        for split, o in (("train", order), ("test", None))
    )
    assert (len(train), len(held)) == (900, 300)
    whole = Classification().data.load("train").images.flatten(1)
    assert torch.equal(torch.cat([train, held]).unique(dim=0), whole.unique(dim=0))
    again = torch.cat([images for images, _ in task.batches("test", batch_size=7)]).flatten(1)
    assert torch.equal(again, held)


def test_another_search_in_the_same_database_is_refused(tmp_path):
    from tangential.experiments.sweep.study import Sweep

    ranges = read_ranges(digits, LR)["sgd"]
    sweep = Sweep(
        recipe=digits,
        optimizer="sgd",
        ranges=ranges,
        trials=1,
        storage=f"sqlite:///{tmp_path}/s.db",
        out=tmp_path,
        run=lambda *_: 0.0,
    )
    sweep.study()
    sweep.study()
    with pytest.raises(ValueError, match="holds another search for sgd"):
        replace(sweep, recipe=replace(digits, epochs=3)).study()


NAMES = ["lr?1", "a%41b", "a#b", "a{b}", "~", "ä ö", "a&b=c;d'e\"f", "file:x", ":memory:", "a\\b"]


def search(out, **changes):
    from tangential.experiments.sweep.study import Sweep

    settings = {"recipe": digits, "optimizer": "sgd", "ranges": read_ranges(digits, LR)["sgd"], "trials": 2}
    return Sweep(**{**settings, "storage": out / "sweep.db", "out": out, "run": lambda *_: 0.5, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_every_folder_has_its_own_database_whatever_it_is_called(tmp_path, name):
    for parent in (tmp_path / "one", tmp_path / "two"):
        out = parent / name
        out.mkdir(parents=True)
        seen = []
        search(out, trials=1).work(seen.append)
        assert len(seen) == 1
        assert [file.name for file in out.iterdir()] == ["sweep.db"]
        assert [file.name for file in parent.iterdir()] == [name]


def broken(path):
    path.write_bytes(b"SQLite format 3\0" + bytes(200))


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        (lambda path: "nonsense", "nonsense: Could not parse"),
        (lambda path: "nosuch://host/db", "nosuch://host/db: "),
        (lambda path: "nosuch+driver://host/db", "nosuch.driver://host/db: "),
        (lambda path: f"sqlite:///{path}/no/such/folder/s.db", "unable to open"),
        (lambda path: path / "no" / "such.db", "unable to open"),
        (lambda path: (path / "other.db", (path / "other.db").write_text("a text\n" * 99))[0], "not a database"),
        (lambda path: (path / "other.db", broken(path / "other.db"))[0], "other.db: "),
        (lambda path: "sqlite:///{unknown}.db", "unknown"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_in_one_line(tmp_path, storage, says):
    with pytest.raises(ValueError, match=says) as error:
        search(tmp_path, storage=storage(tmp_path)).work()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_an_error_of_the_database_in_the_middle_is_named_in_one_line(tmp_path):
    def run(*_):
        with sqlite3.connect(tmp_path / "sweep.db") as database:
            database.execute("drop table trial_values")
        return 0.5

    with pytest.raises(ValueError, match=r"sweep.db: .*trial_values.*; choose another --storage"):
        search(tmp_path, run=run).work()
    with pytest.raises(ValueError, match=r"x: disk I/O error; choose"), database_errors("x"):
        raise sqlite3.OperationalError("disk I/O error\nand more")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_worker_that_was_taken_for_dead_leaves_the_trial_to_its_retry(tmp_path):
    calls = []

    def run(recipe, optimizer, seed, folder):
        calls.append(folder.path.name)
        if len(calls) == 1:  # as by another worker, while this one was stopped
            others = sweep.study()
            others.tell(0, state=TrialState.FAIL)
            RetryHeartbeatStaleTrialCallback()(others, others.trials[0])
        return 0.5

    sweep = search(tmp_path, run=run, recipe=replace(digits, seeds=1))
    seen = []
    sweep.work(seen.append)
    assert calls == ["trial0000-seed0", "trial0000-seed0", "trial0001-seed0"]
    assert [trial.number for trial in seen] == [1, 2]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_run_that_its_first_worker_still_trains_is_tried_later(tmp_path, monkeypatch):
    from tangential.experiments.sweep import study as module

    slept, held = [], [True]

    def run(*_):
        if held:
            raise Held("is being written by process 1")
        return 0.5

    def sleep(seconds):
        slept.append(seconds)
        held.clear()

    monkeypatch.setattr(module.time, "sleep", sleep)
    sweep = search(tmp_path, run=run, recipe=replace(digits, seeds=1), trials=1, heartbeat=10)
    assert [trial.state for trial in sweep.work().trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert sum(slept) == 10


def test_a_search_of_an_earlier_version_goes_on(tmp_path):
    sweep = search(tmp_path)
    study = sweep.study()
    former = json.loads(study.user_attrs["settings"])
    former["run"]["task"]["class"] = "tangential.tasks.classification.Classification"
    former["run"]["schedule"]["class"] = former["run"]["schedule"]["class"].replace("experiments.training.", "")
    study.set_user_attr("settings", json.dumps(former))
    assert sweep.study().user_attrs["settings"] != json.dumps(former)
    with pytest.raises(ValueError, match=r"holds another search for sgd .seeds: 5 there, 2 asked"):
        search(tmp_path, recipe=replace(digits, seeds=2)).study()


@pytest.mark.parametrize(("limit", "share"), [(1, 0.2), (2, 0.9), (1, 0.99)])
def test_a_split_that_would_leave_nothing_to_train_on_is_refused(limit, share):
    task = ValidationSplit(override(digits, f"task.data.limit={limit}").task, share=share)
    with pytest.raises(ValueError, match=f"share={share}: holds out all of the {limit} training samples"):
        task.batches("train", batch_size=1)

"""A sweep finishes every trial exactly once, for baseline and projected optimizer alike, whoever is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tangential.experiments.recipes import digits
from tangential.experiments.sweep.search_space import read_ranges
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.tasks.classification import Classification

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


def worker(out, *more):
    command = [
        sys.executable,
        "-m",
        "tangential",
        "sweep",
        "digits",
        "--smoke",
        *LR,
        "--trials",
        "4",
        "--heartbeat",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--out", str(out), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def studies(out):
    return {
        name: optuna.load_study(study_name=f"digits-{name}", storage=f"sqlite:///{out}/sweep.db")
        for name in ("sgd", "sgdp")
    }


def finished(study):
    """The number of the trial that each finished one stands for."""
    done = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return sorted(each.system_attrs.get("failed_trial", each.number) for each in done)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("killed", [False, True])
def test_two_workers_finish_every_trial_exactly_once(tmp_path, killed):
    slow = ("epochs=40",) if killed else ()
    first = worker(tmp_path, *slow)
    while killed and first.poll() is None and not list(tmp_path.glob("sgd/trial0001-seed0/metrics.jsonl")):
        time.sleep(0.01)
    second = worker(tmp_path, *slow)
    if killed:
        first.send_signal(signal.SIGKILL)
    answers = [each.communicate() for each in (first, second)]
    assert [first.returncode, second.returncode] == [-signal.SIGKILL if killed else 0, 0], answers
    for name, study in studies(tmp_path).items():
        assert len(finished(study)) == len(set(finished(study))) == 4, (
            name,
            [(t.number, t.state) for t in study.trials],
        )
        assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
        folders = {int(re.findall(r"trial(\d+)", path.name)[0]) for path in (tmp_path / name).iterdir()}
        assert folders == set(finished(study))
    table = answers[1][0]
    assert re.search(r"^sgd +[\d.]+ +4 +optimizers.sgd.lr=", table, re.MULTILINE)
    if not killed:  # both looked for the same number of times, and what each finished it has shown
        shown = re.findall(r"^(sgdp?) +(\d+) ", answers[0][0] + table, re.MULTILINE)
        assert len([each for each in shown if "lr=" not in each]) >= 8


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

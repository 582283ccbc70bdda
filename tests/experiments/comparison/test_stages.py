"""A comparison ends with the same page however often it is interrupted, and never does what it did not register."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from experiments.comparison.conftest import lasting
from support.tiny_recipe import Plane, tiny
from tangential.experiments import recipes
from tangential.experiments.comparison import page, register, stages
from tangential.experiments.comparison.items import noise, retrained, trials
from tangential.experiments.comparison.protocol import read
from tangential.experiments.runs import sharing
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.runs.lock import locked
from tangential.experiments.training.signals import Stopped


def until_done(compare, out, every):
    for interruptions in range(1000):
        try:
            return interruptions, compare(out, steps=every)
        except Stopped:
            continue
    raise AssertionError("it does not end")


def test_interrupted_anywhere_it_resumes_to_the_same_page(tmp_path, compare, whole):
    # at each of the eight steps of a run, and some runs twice
    interruptions, (*_, parts) = until_done(compare, tmp_path, every=5)
    assert interruptions > 16
    assert lasting(parts) == lasting(whole[1][-1])


def test_a_finished_comparison_trains_nothing_again(compare, whole):
    out, (*_, first) = whole
    *_, again = compare(out, steps=1)  # a single step would end it
    assert again == first


def test_baseline_and_projected_get_the_same_trials_and_no_seed_is_used_twice(whole):
    tmp_path, (contest, protocol, tuning, made) = whole
    runs = {name: list(trials(contest, protocol, grid, tmp_path)) for name, grid in tuning.grids.items()}
    settings = {name: [item.label for _, item in each] for name, each in runs.items()}
    assert settings["sgd"] == settings["sgdp"] and len(settings["sgd"]) >= 3
    tuned = {item.seed for each in runs.values() for _, item in each}
    fresh = {item.seed for item in retrained(contest, protocol, tuning.values, tmp_path)}
    assert not tuned & fresh and len(fresh) == 3
    (pair,) = made["pairs"]
    assert pair["seeds"] == 3 and set(pair["differences"]) == {str(seed) for seed in fresh}


def test_trials_never_see_the_test_data_and_the_best_are_trained_on_all_training_data(whole):
    tmp_path, (contest, protocol, tuning, _) = whole
    for name, grid in tuning.grids.items():
        for _, item in trials(contest, protocol, grid, tmp_path):
            data = json.loads(item.folder.data.read_text())
            assert data["train"]["samples"] + data["test"]["samples"] == 60
            assert name == item.optimizer
    for item in retrained(contest, protocol, tuning.values, tmp_path):
        data = json.loads(item.folder.data.read_text())
        assert (data["train"]["samples"], data["test"]["samples"]) == (60, 30)
        given = item.folder.settings()["made_by"]["arguments"]
        for path, value in tuning.values[item.optimizer].items():
            assert given[path.split(".")[-1]] == float(value)


def test_noise_is_the_baseline_again_with_another_kernel(whole):
    tmp_path, (contest, protocol, tuning, made) = whole
    items = list(noise(contest, protocol, tuning.values, tmp_path))
    assert {item.optimizer for item in items} == {"sgd"} and [item.seed for item in items] == [100, 101]
    for item in items:
        own = RunFolder(tmp_path / "retrained" / f"sgd-seed{item.seed}").settings()["made_by"]["arguments"]
        assert item.folder.settings()["made_by"]["arguments"] == own | {"fused": True}
    assert [each["name"] for each in made["noise"]] == ["sgd"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trials": 16}, "trials: 3 registered, 16 asked"),
        ({"seeds": 8}, "seeds: 3 registered, 8 asked"),
        ({"margin": 2.0}, "margin: None registered, 2.0 asked"),
        ({"against": ("wd_ratio=1",)}, "against"),
        ({"settings": ("epochs=3",)}, "settings"),
    ],
)
def test_a_command_that_contradicts_the_protocol_is_refused(tmp_path, compare, change, says):
    with pytest.raises(Stopped):
        compare(tmp_path, steps=1)
    with pytest.raises(
        ValueError, match=rf"protocol.json registers another comparison .*{says}.*; choose another --out"
    ):
        compare(tmp_path, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 3}, "sgd.epochs: 2 there, 3 asked"),
        ({"task": replace(Plane(), points=120)}, "sgd.task.points: 90 there, 120 asked"),
    ],
)
def test_other_code_or_data_than_registered_are_refused(tmp_path, compare, monkeypatch, change, says):
    with pytest.raises(Stopped):
        compare(tmp_path, steps=1)
    monkeypatch.setitem(recipes.RECIPES, "tiny", replace(tiny, **change))
    with pytest.raises(ValueError, match=rf"was registered for something else .*{says}"):
        compare(tmp_path)


def test_another_commit_is_refused_for_training_and_not_for_the_report(whole, monkeypatch):
    tmp_path, _ = whole
    here = register.environment
    monkeypatch.setattr(register, "environment", lambda **given: here(**given) | {"git_commit": "abc"})
    with pytest.raises(ValueError, match=r"git_commit .* there, abc now"):
        register.registered({}, tmp_path, trains=True)
    assert register.registered({}, tmp_path, trains=False)[1] == read(tmp_path)


def test_scores_are_sealed_by_the_test(tmp_path, whole):
    out, (contest, protocol, tuning, _) = whole
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "retrained" / "sgd-seed100" / "metrics.jsonl"
    *first, last = path.read_text().splitlines()
    path.write_text("\n".join([*first, json.dumps(json.loads(last) | {"test_accuracy": 0.999})]) + "\n")
    with pytest.raises(ValueError, match=r"scores.json has other scores than the runs beside it"):
        stages.test(contest, protocol, tuning, tmp_path)


def test_a_stage_whose_runs_are_not_there_is_refused(tmp_path, compare):
    with pytest.raises(Stopped):
        compare(tmp_path, steps=15)
    contest, protocol = register.registered({}, tmp_path, trains=False)
    with pytest.raises(ValueError, match=r"is not finished, nor are \d+ others; run the command without --stage"):
        stages.tune(contest, protocol, tmp_path, stages.finished_only)


def test_a_run_that_another_process_holds_is_waited_for(tmp_path, compare, whole, monkeypatch):
    with pytest.raises(Stopped):
        compare(tmp_path, steps=1)
    held = tmp_path / "tuning" / "sgd" / "lr=0.1-seed0"
    held.mkdir(parents=True)
    lock = locked(held)
    lock.__enter__()
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        lock.__exit__(None, None, None)

    monkeypatch.setattr(sharing, "time", SimpleNamespace(sleep=sleep))
    *_, made = compare(tmp_path)
    assert len(waited) == 1
    assert lasting(made) == lasting(whole[1][-1])


def test_a_trial_that_diverges_ranks_last_and_one_of_all_ends_the_comparison(tmp_path, compare):
    wide = ("optimizers.*.lr=0.1..1e18",)
    *_, tuning, made = compare(tmp_path / "some", ranges=wide, trials=3)
    assert min(tuning.scores["sgd"].values()) == -float("inf")
    assert all(float(each["settings"]["lr"]) < 1e12 for each in made["optimizers"])
    assert any(cell["score"] is None for each in made["families"][0]["heat"]["optimizers"] for row in each["rows"]
               for cell in row["cells"])  # fmt: skip
    with pytest.raises(FloatingPointError, match="every trial of sgd diverged; give a range"):
        compare(tmp_path / "all", ranges=("optimizers.*.lr=1e17..1e18",), trials=3)


def test_a_retrained_run_that_diverges_leaves_the_verdict_open(tmp_path, compare, whole):
    out, (contest, protocol, tuning, _) = whole
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "scores.json").unlink()
    *_, last = retrained(contest, protocol, tuning.values, tmp_path)
    last.folder.mark_diverged("train_loss became nan")
    *_, made = compare(tmp_path)
    assert made["sentences"] == [made["pairs"][0]["sentence"]]
    assert made["sentences"][0].startswith("sgdp against sgd is undecided, as runs diverged (1 of sgdp)")
    assert "1 diverged" in page.render(made)

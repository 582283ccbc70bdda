"""A run keeps what its steps did to the weights, in a bounded number of records, whatever optimizers it has."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch

from support.drifting_task import Drifting
from support.noisy_task import Noisy, begin, plan
from tangential.experiments.recipes import RECIPES, digits
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training import model_analysis
from tangential.experiments.training.fit import fit
from tangential.experiments.training.plan import TrainingOptions
from tangential.invariances import Invariances
from tangential.telemetry import read_records

pytestmark = pytest.mark.slow


def trained(path, plan):
    folder = begin(path)
    list(fit(plan, folder))
    return folder


@pytest.mark.parametrize(("samples", "epochs"), [(12, 1), (400, 3)])
def test_records_are_at_most_two_hundred(tmp_path, samples, epochs):
    folder = trained(tmp_path, replace(plan, task=Noisy(images=samples), epochs=epochs))
    records = read_records(folder.telemetry)
    steps = epochs * samples // 4
    assert min(steps, 100) <= len(records) <= 200
    assert [record["epoch"] for record in records] == sorted(record["epoch"] for record in records)
    assert {record["epoch"] for record in records} == set(range(1, epochs + 1))


def test_asked_steps_are_recorded_and_none_where_none_are_asked(tmp_path):
    folder = trained(tmp_path / "some", replace(plan, options=TrainingOptions(watch_every=5)))
    assert [record["step"] for record in read_records(folder.telemetry)] == [5, 10]
    folder = trained(tmp_path / "none", replace(plan, options=TrainingOptions(watch_every=0)))
    assert not folder.telemetry.exists() and not folder.invariances.exists()


def test_last_record_has_the_norms_of_the_model_before_the_step(tmp_path):
    """At a rate of zero, so that the weights stay those the seed gave."""
    still = replace(plan, optimizer=partial(torch.optim.SGD, lr=0.0), epochs=2)
    folder = trained(tmp_path, still)
    torch.manual_seed(still.seed)
    model = Noisy().model()
    weights = read_records(folder.telemetry)[-1]["weights"]
    assert weights["0.weight"]["norm"] == pytest.approx(float(model[0].weight.norm().detach()), rel=1e-5)
    assert weights["0.weight"]["kind"] == "channel"
    assert weights["3.weight"]["angle"] == pytest.approx(0, abs=1e-6)


def test_optimizers_that_play_against_each_other_share_the_records(tmp_path):
    recipe = RECIPES["biased-mnist-small"].smoke()
    folder = trained(tmp_path, recipe.plan("adamp", 0))
    for record in read_records(folder.telemetry):
        assert {name[0] for name in record["weights"]} == {"f", "g"}
    found = Invariances.from_json(folder.invariances.read_text())
    assert {name[0] for name in found if found[name]} == {"f", "g"}


def test_invariances_are_asked_once_for_all_runs_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setattr(model_analysis, "_analyses", {})
    asked = []
    find = model_analysis.find_invariances
    monkeypatch.setattr(model_analysis, "find_invariances", lambda *a, **k: asked.append(1) or find(*a, **k))
    recipe = digits.smoke()
    folders = [trained(tmp_path / name, recipe.plan(name, 0)) for name in recipe.optimizers]
    assert len(asked) == 1
    assert len({folder.invariances.read_text() for folder in folders}) == 1


def test_invariances_found_draw_nothing_from_the_runs_generators(tmp_path):
    watched, plain = (
        trained(tmp_path / str(n), replace(plan, options=TrainingOptions(watch_every=n))) for n in (None, 0)
    )
    assert [r["train_loss"] for r in watched.metrics()] == [r["train_loss"] for r in plain.metrics()]


def test_model_that_cannot_be_analysed_is_watched_all_the_same(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tangential"):
        folder = trained(tmp_path, replace(plan, task=Drifting(), epochs=1))
    assert "which weights are scale-invariant is not known" in caplog.text
    assert not folder.invariances.exists()
    assert read_records(folder.telemetry)[-1]["weights"]["weight"]["kind"] is None


def test_broken_invariances_are_named(tmp_path):
    folder = begin(tmp_path)
    folder.invariances.write_text("{}")
    with pytest.raises(ValueError, match=r"invariances.json is broken"):
        list(fit(plan, RunFolder(tmp_path)))

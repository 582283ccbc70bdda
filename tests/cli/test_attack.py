"""The robust accuracy of a trained run, from the command line."""

import math

import pytest

from tangential.cli import attack as body
from tangential.cli.signatures import attack as command
from tangential.experiments.recipes import choose
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.fit import fit


@pytest.fixture
def run(tmp_path):
    recipe = choose("cifar10-adversarial-small", ["watch_every=0"], smoke=True)
    folder = RunFolder(tmp_path / "adamp-seed0")
    folder.start(recipe.settings("adamp", 0), {})
    list(fit(recipe.plan("adamp", 0), folder))
    return folder


def test_the_accuracy_is_the_mean_over_as_many_images_as_asked(run, monkeypatch, capsys):
    seen = []

    def half(model, batches, attack, *, version):
        ((images, _),) = batches
        seen.append((len(images), attack.norm, version, model.training))
        return 0.5

    monkeypatch.setattr(body, "robust_accuracy", half)
    monkeypatch.setattr(body, "BATCH", 4)
    command.attack(run.path, count=6, version="plus")
    assert seen == [(4, "linf", "plus", False), (2, "linf", "plus", False)]
    assert "robust accuracy 50.00 % of 6 images" in capsys.readouterr().out


def test_a_model_that_diverged_has_no_robust_accuracy(run, monkeypatch):
    monkeypatch.setattr(body, "robust_accuracy", lambda *_, **__: math.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        command.attack(run.path, count=2)


def test_a_run_without_attacks_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "sgd-seed0")
    folder.start(choose("digits").settings("sgd", 0), {})
    with pytest.raises(ValueError, match="a run of 'digits', which is not trained to be robust"):
        command.attack(folder.path)

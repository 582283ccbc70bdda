"""`blocks=detected` in a recipe projects the blocks that the analysis finds, and nothing else."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from support.drifting_task import Drifting
from support.noisy_task import plan as noisy
from tangential import SGDP, AdamP, Blocks
from tangential.experiments.recipes import RECIPES, digits
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.overrides import override
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.training.signals import Stop, Stopped
from tangential.invariances import Invariances


def detecting(recipe, optimizer="adamp"):
    return override(recipe, f"optimizers.{optimizer}.blocks=detected")


def blocks_of(training):
    """Name of each weight -> the blocks that its group has."""
    names = {id(p): name for name, p in training.model.named_parameters()}
    groups = [group for each in training.optimizers.values() for group in each.param_groups]
    return {names[id(p)]: group["blocks"] for group in groups for p in group["params"]}


def rate_of(training):
    """Name of each weight -> its learning rate."""
    names = {id(p): name for name, p in training.model.named_parameters()}
    groups = [group for each in training.optimizers.values() for group in each.param_groups]
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", ["digits", "bccd-centernet", "biased-mnist-small", "omniglot-proxy-anchor"])
def test_groups_have_the_blocks_that_the_run_folder_records(tmp_path, name):
    recipe = detecting(RECIPES[name].smoke())
    recipe.check()
    list(fit(recipe.plan("adamp", 0), RunFolder(tmp_path), settings=recipe.settings("adamp", 0)))
    known = Invariances.from_json((tmp_path / "invariances.json").read_text())
    training = Training(recipe.plan("adamp", 0))
    found = blocks_of(training)
    assert found.keys() == dict(training.model.named_parameters()).keys()
    assert {name: known[name] for name in found} == found
    assert any(found.values()) and None in found.values()
    if name == "bccd-centernet":  # transposed convolutions have their channels on the second dimension
        assert sum(each == Blocks(dim=1) for each in found.values()) == 3


def test_groups_keep_the_rate_of_their_own():
    recipe = detecting(RECIPES["omniglot-proxy-anchor"].smoke())
    plain = RECIPES["omniglot-proxy-anchor"].smoke()
    rates = [rate_of(Training(each.plan("adamp", 0))) for each in (recipe, plain)]
    assert rates[0] == rates[1]
    assert len(set(rates[0].values())) > 1


@pytest.mark.parametrize("optimizer", [SGDP, AdamP])
def test_steps_are_those_of_an_optimizer_made_from_the_analysis_by_hand(optimizer):
    made = partial(optimizer, lr=0.01, weight_decay=0.1)
    detected = replace(digits.smoke().plan("sgd", 0), optimizer=partial(made, blocks="detected"))
    training = Training(detected)
    assert {name for name, each in blocks_of(training).items() if each} == {"0.0.weight", "1.0.weight", "3.0.weight"}
    by_hand = Training(replace(detected, optimizer=lambda ps: made([{"params": [p], "blocks": kind(p)} for p in ps])))
    by_test = Training(replace(detected, optimizer=made))
    for each in (training, by_hand):
        each.run_epoch()
    for ours, theirs in zip(training.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert by_test.optimizers[""].param_groups[0]["blocks"] == "cosine"


def kind(weight):
    return Blocks() if weight.ndim == 4 else None


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path):
    recipe = replace(detecting(digits.smoke()), epochs=3)
    plan, settings = recipe.plan("adamp", 0), recipe.settings("adamp", 0)
    list(fit(plan, RunFolder(tmp_path / "whole"), settings=settings))
    stop = Stop()
    stopped = fit(plan, RunFolder(tmp_path / "parts"), settings=settings, stop=stop)
    next(stopped)
    stop.signum = 2
    with pytest.raises(Stopped):
        next(stopped)
    list(fit(plan, RunFolder(tmp_path / "parts"), settings=settings))
    whole, parts = (torch.load(tmp_path / each / "checkpoint.pt")["model"] for each in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_model_that_cannot_be_analysed_is_refused_with_the_reason():
    plan = replace(noisy, task=Drifting(), optimizer=partial(AdamP, lr=0.01, blocks="detected"))
    with pytest.raises(ValueError, match=r"^blocks=detected: the model cannot be analysed \(.+\); use blocks=cosine"):
        Training(plan)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optimizers.sgd.blocks=detected", "has no 'blocks'"),
        ("optimizers.adamp.blocks=detectd", "optimizers.adamp: blocks='detectd'"),
    ],
)
def test_what_has_no_blocks_or_no_such_blocks_is_refused_before_anything_is_trained(assignment, says):
    with pytest.raises(ValueError, match=says):
        override(digits, assignment).check()

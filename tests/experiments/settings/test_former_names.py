"""Settings that version 0.1 saved are those of the present recipes, under their present names."""

import json
from dataclasses import replace
from importlib import import_module

import pytest

from support.paths import ROOT
from tangential.experiments.recipes import RECIPES
from tangential.experiments.settings import former_names
from tangential.experiments.settings.former_names import FORMER, current_names
from tangential.experiments.settings.record import describe, differences
from tangential.experiments.sweep.validation_split import ValidationSplit

SAVED = json.loads((ROOT / "tests" / "support" / "settings_of_0_1.json").read_text())
"""Task and schedule of the recipes of 0.1, as `settings.json` had them; `NAME smoke` on generated data."""


def present(name):
    if name == "sweep":
        recipe = RECIPES["digits"].smoke()
        return replace(recipe, task=ValidationSplit(recipe.task))
    name, _, smoke = name.partition(" ")
    return RECIPES[name].smoke() if smoke else RECIPES[name]


@pytest.mark.parametrize("name", SAVED)
def test_settings_of_the_last_version_are_those_of_the_present_recipe(name):
    recipe = present(name)
    optimizer = list(recipe.optimizers)[-1]
    asked = {key: value for key, value in recipe.settings(optimizer, 0).items() if key in SAVED[name]}
    assert list(differences(current_names(SAVED[name]), asked)) == []


def named(qualified):
    """What a qualified name stands for: a module or something in one."""
    try:
        return import_module(qualified)
    except ModuleNotFoundError:
        module, _, name = qualified.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("former", FORMER)
def test_every_present_name_exists(former):
    assert named(FORMER[former])
    assert current_names(FORMER[former]) == FORMER[former], "present names stay"


def test_other_texts_stay():
    texts = ["digits", "tangential train digits", "torch.optim.adamw.AdamW", "tangential.nets of old", ""]
    assert current_names(texts) == texts


def test_fields_are_renamed_and_added_for_their_class_alone(monkeypatch):
    monkeypatch.setattr(former_names, "FORMER_FIELDS", {("tangential.experiments.nets.small.conv_net", "w"): "width"})
    monkeypatch.setattr(former_names, "ADDED_FIELDS", {("tangential.experiments.task.Headline", "scale"): 1.0})
    net = {"class": "tangential.nets.small.conv_net", "arguments": {"w": 3}, "defaults": {"w": 8, "x": 1}}
    found = current_names({"net": net, "other": {"class": "torch.nn.Linear", "w": 2}, "w": 1})
    assert (found["net"]["arguments"], found["net"]["defaults"]) == ({"width": 3}, {"width": 8, "x": 1})
    assert (found["other"]["w"], found["w"]) == (2, 1)
    assert current_names({"class": "tangential.task.Headline", "name": "x"})["scale"] == 1.0
    assert current_names({"class": "tangential.task.Headline", "scale": 2.0})["scale"] == 2.0


def test_newer_defaults_are_no_difference_and_older_ones_are():
    assert list(differences({"defaults": {}}, {"defaults": {"eps": 1}})) == []
    assert list(differences({"defaults": {"eps": 1}}, {"defaults": {}})) == ["defaults.eps: 1 there, None asked"]
    assert list(differences({"a": {}}, {"a": describe({"eps": 1})})) == ["a.eps: None there, 1 asked"]

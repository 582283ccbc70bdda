"""The names that `tangential.timm` registers are ours in every form that timm takes."""

import importlib

import pytest
import torch

from tangential import SGDP, AdamP, Blocks, find_invariances

timm = pytest.importorskip("timm")
optim = pytest.importorskip("timm.optim")
registered = importlib.import_module("tangential.timm").REGISTERED


def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))


@pytest.mark.parametrize("info", registered, ids=lambda info: info.name)
@pytest.mark.parametrize("form", ["{}", "{}".upper(), "lookahead_{}"])
def test_timm_makes_ours_from_the_name(info, form):
    made = optim.create_optimizer_v2(net(), form.format(info.name), lr=1e-2, weight_decay=0.1)
    inner = getattr(made, "_base_optimizer", made)
    assert type(inner) is info.opt_class in (SGDP, AdamP)
    assert sorted(group["weight_decay"] for group in inner.param_groups) == [0, 0.1]


def test_no_name_has_what_timm_cuts_off():
    assert all("_" not in info.name for info in registered)
    assert type(optim.create_optimizer_v2(net(), "tangential_adamp", lr=1e-2)) is optim.AdamP, "then say so no more"


def test_timm_passes_our_groups_through():
    model = net()
    found = find_invariances(model, torch.randn(4, 3, 8, 8))
    for given in (found.param_groups(weight_decay=0.1), model):
        how = {} if given is not model else {"param_group_fn": lambda m: found.param_groups(m, weight_decay=0.1)}
        made = optim.create_optimizer_v2(given, "tangentialadamp", lr=1e-2, **how)
        assert [group["blocks"] for group in made.param_groups] == [Blocks(), None]


def test_settings_that_timm_passes_arrive():
    made = optim.create_optimizer_v2(net(), "tangentialsgdp", lr=1e-2, momentum=0.8, blocks="sticky", nesterov=True)
    group = made.param_groups[0]
    assert (group["momentum"], group["blocks"], group["nesterov"]) == (0.8, "sticky", True)
    made = optim.create_optimizer_v2(net(), "tangentialadamp", lr=1e-2, betas=(0.8, 0.9), eps=1e-6, foreach=False)
    assert (made.param_groups[0]["betas"], made.param_groups[0]["foreach"]) == ((0.8, 0.9), False)

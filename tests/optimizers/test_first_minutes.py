"""What a new user meets first: refusals that name the way out, types that a checker reads, short forms on a prompt."""

import typing

import pytest
import torch
from torch import nn

from tangential import SGDP, AdamP, Blocks, Radial, watch
from tangential.radial import Project


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))


@pytest.mark.parametrize(
    "params",
    [
        lambda model: model,
        lambda model: [model],
        lambda model: [{"params": model}],
        lambda model: [{"params": [model[0].weight, model[1]]}],
        lambda model: model.named_children(),
    ],
    ids=["model", "list", "group", "mixed", "named"],
)
@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_a_module_in_the_place_of_parameters_is_refused_with_what_to_pass(optimizer, params):
    with pytest.raises(TypeError, match=rf"{optimizer.__name__}.*a module came.*parameters\(\)"):
        optimizer(params(net()), lr=0.1)


def test_lists_of_parameters_are_parameters():
    given = nn.ParameterList([torch.ones(2, 3), torch.ones(4, 3)])
    for params in (given, [{"params": given}], [{"params": given[0]}]):
        assert all(isinstance(p, nn.Parameter) for p in AdamP(params).param_groups[0]["params"])


def test_group_keys_that_no_step_reads_are_refused():
    with pytest.raises(TypeError, match="did you mean 'weight_decay'"):
        AdamP([{"params": net().parameters(), "weight_dekay": 0.1}])
    with pytest.raises(TypeError, match="its settings are lr, "):
        SGDP([{"params": net().parameters(), "depth": 0.1}])


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_blocks_are_typed_as_what_is_accepted(optimizer):
    hint = typing.get_type_hints(optimizer.__init__)["blocks"]
    members = {x for each in typing.get_args(hint) for x in typing.get_args(each) or [each]}
    assert members == {"cosine", "sticky", Blocks, type(None)}
    for choice in ("cosine", "sticky", Blocks(), None):
        optimizer([torch.ones(2, 3)], lr=0.1, blocks=choice)


def test_an_optimizer_shows_a_line_per_group_with_what_is_no_default():
    model = net()
    groups = [{"params": model[0].parameters(), "blocks": Blocks()}, {"params": model[1].parameters(), "blocks": None}]
    shown = repr(AdamP(groups, lr=torch.tensor(0.5), weight_decay=0.1, eps=1e-6)).splitlines()
    assert shown == [
        "AdamP (",
        f"  1 parameter: lr={torch.tensor(0.5)!r}, weight_decay=0.1, blocks={Blocks()!r}, eps=1e-06",
        f"  2 parameters: lr={torch.tensor(0.5)!r}, weight_decay=0.1, blocks=None, eps=1e-06",
        ")",
    ]
    base = torch.optim.NAdam(model.parameters(), lr=0.1)
    over = repr(Radial(base, Project(), invariances={model[0].weight: Blocks()}))
    assert over.startswith("Radial (Project(wd_ratio=0.1) over NAdam (\n  3 parameters: lr=0.1, weight_decay=0")


def test_telemetry_shows_how_far_it_is():
    weight = torch.ones(2, 3, requires_grad=True)
    optimizer = AdamP([weight])
    with watch(optimizer, every=2) as telemetry:
        assert repr(telemetry) == "<Telemetry of AdamP: every 2 steps, 0 taken, 0 recorded>"
        for _ in range(3):
            weight.grad = torch.randn(2, 3)
            optimizer.step()
        assert repr(telemetry) == "<Telemetry of AdamP: every 2 steps, 3 taken, 1 recorded>"
    assert repr(telemetry) == "<Telemetry of AdamP: closed, 3 taken, 1 recorded>"

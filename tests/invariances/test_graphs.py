"""Models that a compiler has been at: regions of torch.compile, graphs of torch.export."""

import pytest
import torch
from torch import nn

from tangential import AdamP, Blocks, find_invariances, watch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # torch 2.10's own, as the others are the compiler's
    "ignore:The .grad attribute:UserWarning",
    "ignore::DeprecationWarning",
)


def net():
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, 3))


X = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def replaced(model):
    """Each repeated block by its compiled wrapper, as trainers' regional compilation does it."""
    for i in range(2):
        model[i] = torch.compile(model[i], backend="eager")
    return model


def in_place(model):
    """Each repeated block compiled as it is, without a wrapper."""
    for i in range(2):
        model[i].compile(backend="eager")
    return model


@pytest.mark.parametrize("how", [replaced, in_place])
def test_regions_that_are_compiled_change_no_verdict_and_no_name(how):
    model, compiled = net(), how(net())
    plain, own = find_invariances(model, X), find_invariances(compiled, X)
    assert [*own.values()] == [*plain.values()]
    for found in (own, plain):
        groups = found.param_groups(compiled, weight_decay=0.1)
        assert [group["blocks"] for group in groups] == [group["blocks"] for group in plain.param_groups(model)]
        optimizer = AdamP(groups, lr=1e-2)
        with watch(optimizer, every=1, names=compiled.named_parameters(), invariances=found) as telemetry:
            compiled(X).square().mean().backward()
            optimizer.step()
        kinds = {name.replace("_orig_mod.", ""): own["kind"] for name, own in telemetry.latest["weights"].items()}
        assert kinds == {"0.0.weight": "channel", "1.0.weight": "channel", "3.weight": None}


def test_a_graph_of_torch_export_is_the_module_in_the_mode_that_it_was_exported_in():
    model = net()
    exported = torch.export.export(model, (X,))
    with pytest.raises(TypeError, match=r"pass its module, program\.module\(\)"):
        find_invariances(exported, X)
    found = find_invariances(exported.module(), X)
    assert dict(found.items()) == dict(find_invariances(model, X).items())
    assert found["0.0.weight"] == Blocks()
    frozen = torch.export.export(model.eval(), (X,)).module()
    with pytest.warns(UserWarning, match="exported in evaluation mode.*export it in training mode"):
        assert find_invariances(frozen, X)["0.0.weight"] is None

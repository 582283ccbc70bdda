"""Names of weights and of what is known of them: prefixes of wrappers, other names, names that nothing has."""

from collections import defaultdict

import pytest
import torch
from torch import nn

from tangential import AdamP, Blocks, find_invariances, watch

PREFIXES = ["", "module.", "_orig_mod.", "_forward_module.", "_orig_mod.module.", "_forward_module.module."]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))


def kinds(optimizer, model, **settings):
    telemetry = watch(optimizer, every=1, **settings)
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    telemetry.close()
    return {name: own["kind"] for name, own in telemetry.latest["weights"].items()}


@pytest.mark.parametrize("known", PREFIXES)
@pytest.mark.parametrize("named", PREFIXES)
def test_prefixes_of_wrappers_mean_the_same_weight(named, known):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    names = [(named + name, p) for name, p in model.named_parameters()]
    found = find_invariances(model, torch.randn(8, 4))
    blocks = {known + name: value for name, value in found.items()}
    expected = {f"{named}0.weight": "channel", f"{named}2.weight": None}
    assert kinds(optimizer, model, names=names, invariances=blocks) == expected
    assert kinds(optimizer, model, names=names, invariances=found) == expected


def test_prefixes_inside_of_names_count_as_well():
    model = net()
    names = {f"a._fsdp_wrapped_module.{n}": p for n, p in model.named_parameters()}
    blocks = {"a._checkpoint_wrapped_module.0.weight": Blocks(), "module.a.2.weight": None}
    found = kinds(torch.optim.SGD(model.parameters(), 0.1), model, names=names, invariances=blocks)
    assert found == {"a._fsdp_wrapped_module.0.weight": "channel", "a._fsdp_wrapped_module.2.weight": None}


def test_wrapped_models_are_watched_under_their_own_names():
    model = net()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        found = find_invariances(model, torch.randn(8, 4))
        names = wrapped.named_parameters()
        own = kinds(torch.optim.SGD(model.parameters(), 0.1), model, names=names, invariances=found)
        assert list(own.values()) == ["channel", None] and not set(own) & set(list(found))


@pytest.mark.parametrize("names_given", [True, False])
@pytest.mark.parametrize("unknown", ["0.wieght", "net.0.weight", "7.weight"])
def test_a_name_that_nothing_has_is_an_error(unknown, names_given):
    model = net()
    optimizer = torch.optim.AdamW(model.named_parameters())
    names = model.named_parameters() if names_given else None
    with pytest.raises(ValueError, match=rf"{unknown}.*no parameter is called so; the names begin with '0\.weight'"):
        watch(optimizer, names=names, invariances={"0.weight": Blocks(), unknown: Blocks()})


def test_names_of_a_wrapper_of_another_kind_are_an_error_and_not_silence():
    class Wrapper(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

    model = net()
    found, wrapper = find_invariances(model, torch.randn(8, 4)), Wrapper(model)
    optimizer = torch.optim.AdamW(wrapper.parameters())
    with pytest.raises(ValueError, match=r"'0\.weight'.*the names begin with 'net\.0\.weight'"):
        watch(optimizer, names=wrapper.named_parameters(), invariances=found)
    assert kinds(optimizer, model, names=model.named_parameters(), invariances=found)["0.weight"] == "channel"


def test_names_of_other_parameters_are_an_error():
    with pytest.raises(ValueError, match="none of the optimizer's parameters"):
        watch(torch.optim.AdamW(net().parameters()), names=net().named_parameters())


def test_a_name_that_could_be_two_is_an_error():
    model = net()
    blocks = {"module.0.weight": Blocks(), "_orig_mod.0.weight": None}
    with pytest.raises(ValueError, match=r"'0\.weight' could be 'module\.0\.weight' or '_orig_mod\.0\.weight'"):
        watch(torch.optim.AdamW(model.parameters()), names=model.named_parameters(), invariances=blocks)


def test_an_exact_name_goes_before_one_without_prefixes():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.weight = nn.Linear(4, 3, bias=False), nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            return self.module(x) + x @ self.weight.T

    model = Nested()
    blocks = {"module.weight": Blocks(), "weight": Blocks(size=None)}
    found = kinds(torch.optim.SGD(model.parameters(), 0.1), model, names=model.named_parameters(), invariances=blocks)
    assert found == {"weight": "layer", "module.weight": "channel"}


def test_the_invariances_of_a_model_serve_each_of_its_optimizers():
    model = net()
    found = find_invariances(model, torch.randn(8, 4))
    for part in (model[0], model[2]):
        names = {name: p for name, p in model.named_parameters()}
        watch(torch.optim.SGD(part.parameters(), 0.1), names=names, invariances=found).close()
    named = [(name, p) for name, p in model.named_parameters() if name.startswith("2.")]
    watch(torch.optim.SGD(named, 0.1), invariances=found).close()


def test_frozen_weights_need_no_name():
    model = net()
    model[2].weight.requires_grad_(False)
    found = find_invariances(model, torch.randn(8, 4))
    names = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    watch(torch.optim.SGD([p for _, p in names], 0.1), names=names, invariances=found).close()


def test_a_mapping_is_read_and_never_written():
    model = net()
    blocks = defaultdict(lambda: Blocks(), {"0.weight": Blocks()})
    kinds(torch.optim.SGD(model.parameters(), 0.1), model, names=model.named_parameters(), invariances=blocks)
    assert list(blocks) == ["0.weight"]


@pytest.mark.parametrize("value", ["channel", 3, True])
def test_invariances_are_blocks_or_none(value):
    model = net()
    with pytest.raises(TypeError, match=r"invariances\['0\.weight'\].*Blocks or None"):
        watch(torch.optim.SGD(model.parameters()), names=model.named_parameters(), invariances={"0.weight": value})


def test_flips_are_counted_on_under_another_prefix():
    model = net()
    optimizer = AdamP(model.parameters(), 1e-2)

    def telemetry(prefix):
        return watch(optimizer, every=1, names={prefix + name: p for name, p in model.named_parameters()})

    first = telemetry("module.")
    for i in range(6):
        torch.manual_seed(i)
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    first.close()
    second = telemetry("")
    second.load_state_dict(first.state_dict())
    optimizer.step()
    flips = [telemetry.latest["weights"] for telemetry in (first, second)]
    for name in ("0.weight", "2.weight"):
        assert flips[1][name]["flips"] - flips[0]["module." + name]["flips"] in (0, 1)
    assert set(second.state_dict()["flips"]) == {"0.weight", "2.weight"}


@pytest.mark.parametrize(
    "state", [{}, None, [], {"step": 1}, {"step": "x", "epoch": None, "records": 1, "missed": False, "flips": {}}]
)
def test_a_state_of_something_else_is_refused_and_nothing_is_loaded(state):
    telemetry = watch(torch.optim.SGD(net().parameters(), 0.1))
    before = telemetry.state_dict()
    with pytest.raises(ValueError, match="not given by a Telemetry's state_dict"):
        telemetry.load_state_dict(state)
    assert telemetry.state_dict() == before


def test_a_larger_weight_in_place_of_another_keeps_its_name():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    telemetry = watch(optimizer, every=1, names=model.named_parameters(), invariances={"0.weight": Blocks()})
    for width in (2, 5):
        model[2] = nn.Linear(3, width)
        optimizer.param_groups[0]["params"][3:] = list(model[2].parameters())
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        assert {name: own["blocks"] for name, own in telemetry.latest["weights"].items()} == {
            "0.weight": 3,
            "2.weight": width,
        }


@pytest.mark.parametrize("kind", [Blocks(), None])
def test_flattened_weights_are_refused(kind):
    model = net()
    for flatten in ("exchanged", "in place"):
        weights = [nn.Parameter(model[0].weight.detach().clone()), nn.Parameter(model[2].weight.detach().clone())]
        optimizer = torch.optim.SGD(weights, 0.1)
        names = {"a": weights[0], "b": weights[1]}
        telemetry = watch(optimizer, every=1, names=names, invariances={"a": kind})
        flat = torch.cat([w.detach().flatten() for w in weights])
        if flatten == "exchanged":
            optimizer.param_groups[0]["params"] = [flat.requires_grad_()]
        else:
            weights[0].data = flat
        with pytest.raises(ValueError, match=r"'a' had shape \(3, 4\) and now has \(18,\): it was flattened"):
            optimizer.step()
        telemetry.close()

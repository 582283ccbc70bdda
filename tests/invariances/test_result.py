"""What can be done with an answer: read it, look things up in it, change it, save it, and train by it."""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, nn

from support.zoo import GPT, tokens
from tangential import SGDP, AdamP, Blocks, watch
from tangential.invariances import Invariances, find_invariances, table
from tangential.invariances.parameter_names import collapsed, matching, unprefixed
from tangential.invariances.verdicts import Absorber, Verdict


def net():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)),
    )


def images():
    return torch.randn(4, 3, 10, 10)


@pytest.fixture
def answer():
    """A model, and what was found in it."""
    model = net()
    return model, find_invariances(model, images())


# A mapping from names to blocks.


def test_the_answer_maps_every_parameter_name(answer):
    model, found = answer
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert {name for name, blocks in found.items() if blocks} == {"0.weight", "3.weight"}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module."]
)
def test_wrappers_prefixes_are_understood_both_ways(answer, prefix):
    _, found = answer
    assert found[f"{prefix}0.weight"] == Blocks()
    assert found[f"0.{prefix}weight"] == Blocks()
    wrapped = Invariances([Verdict(f"{prefix}0.{prefix}weight", (8, 3), "channel", Blocks())])
    assert wrapped["0.weight"] == Blocks()


def test_a_module_named_like_a_wrapper_keeps_its_own_name():
    inner, outer = Verdict("module.weight", (8, 3), "channel", Blocks()), Verdict("weight", (8, 3), "none")
    found = Invariances([inner, outer])
    assert (found["module.weight"], found["weight"]) == (Blocks(), None)


def test_shared_parameters_answer_to_all_their_names():
    found = find_invariances(GPT(tied=True), tokens())
    assert "head.weight" not in list(found)
    assert found.verdict("head.weight").name == "embedding.weight"
    found["head.weight"] = Blocks()
    assert found["embedding.weight"] == Blocks()


def test_unknown_names_are_errors_that_show_the_known_ones(answer):
    with pytest.raises(KeyError, match=r"0\.weight"):
        answer[1]["features.weight"]


# What the user knows better.


def test_a_pattern_sets_all_that_it_matches():
    found = find_invariances(GPT(), tokens())
    found["*.attention.[qk].weight"] = None
    assert not any(found.values())
    found["layers.*.v.weight"] = Blocks(size=8)
    assert found["layers.1.attention.v.weight"] == Blocks(size=8)
    assert "You set this" in found.explain("layers.1.attention.v.weight")
    assert "the analysis said: none" in found.verdict("layers.1.attention.v.weight").reason


def test_patterns_see_through_prefixes():
    found = Invariances([Verdict("module.a.weight", (8, 3), "none"), Verdict("module.b.weight", (8, 3), "none")])
    found["a.*"] = Blocks()
    assert (found["module.a.weight"], found["b.weight"]) == (Blocks(), None)


def test_overrides_that_cannot_be_meant_are_refused(answer):
    _, found = answer
    with pytest.raises(KeyError, match="matches no parameter"):
        found["*.q_proj.weight"] = None
    with pytest.raises(ValueError, match=r"0\.weight.*Blocks\(dim=0, size=3"):
        found["0.weight"] = Blocks(size=3)
    with pytest.raises(TypeError, match="str"):
        found["0.weight"] = "channel"
    assert found["0.weight"] == Blocks()


def test_a_pattern_that_fits_one_shape_only_changes_nothing(answer):
    _, found = answer
    with pytest.raises(ValueError, match="dimension 1"):
        found["*"] = Blocks(dim=1)
    assert found["0.weight"] == Blocks()


# Groups for an optimizer.


def members(groups):
    return {name for group in groups for name in group["param_names"]}


def test_groups_hold_every_parameter_once_by_its_blocks(answer):
    model, found = answer
    groups = found.param_groups(weight_decay=1e-2, lr=0.5)
    assert [group["blocks"] for group in groups] == [Blocks(), None]
    assert all(group["weight_decay"] == 1e-2 and group["lr"] == 0.5 for group in groups)
    held = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "no_decay", [lambda name, parameter: parameter.ndim < 2, ["*.bias", "[14].weight"], ("*.bias", "1.*", "4.*")]
)
def test_what_does_not_decay_gets_groups_of_its_own(answer, no_decay):
    groups = answer[1].param_groups(weight_decay=1e-2, no_decay=no_decay)
    assert members(group for group in groups if group["weight_decay"] == 0) == {
        *("0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias", "7.bias")
    }


def test_one_pattern_may_stand_alone(answer):
    groups = answer[1].param_groups(weight_decay=1e-2, no_decay="7.*")
    assert members(group for group in groups if group["weight_decay"] == 0) == {"7.weight", "7.bias"}


def test_group_options_that_cannot_be_meant_are_refused(answer):
    _, found = answer
    with pytest.raises(ValueError, match="matches no"):
        found.param_groups(no_decay=["norm.*"])
    with pytest.raises(TypeError, match="blocks"):
        found.param_groups(blocks=None)


def test_frozen_parameters_are_left_out(answer):
    model, found = answer
    model[0].weight.requires_grad_(False)
    assert "0.weight" not in members(found.param_groups())


def test_groups_of_a_wrapped_model_hold_the_same_parameters(answer):
    model, found = answer
    wrapped = torch.compile(nn.DataParallel(model))
    assert members(found.param_groups(wrapped)) == set(found)


def test_a_model_that_is_gone_or_another_is_refused(answer):
    model, found = answer
    with pytest.raises(ValueError, match="not analysed"):
        found.param_groups(nn.ModuleDict({"other": model}))
    with pytest.raises(ValueError, match="shape"):
        found.param_groups(nn.Sequential(nn.Conv2d(3, 9, 3)))
    alone = find_invariances(net(), images())
    with pytest.raises(ValueError, match=r"param_groups\(model\)"):
        alone.param_groups()


@pytest.mark.parametrize("optimizer", [AdamP, lambda groups: SGDP(groups, lr=1e-2, momentum=0.9)])
def test_steps_by_the_answer_keep_the_norms_of_invariant_blocks_up_to_second_order(answer, optimizer):
    model, found = answer
    stepper = optimizer(found.param_groups())
    weight = model[0].weight
    for _ in range(3):
        before = weight.detach().clone()
        model(images()).square().mean().backward()
        stepper.step()
        step = weight.detach() - before
        radial = (step * before).flatten(1).sum(1) / before.flatten(1).square().sum(1)
        assert radial.abs().max() < 1e-6
        assert step.abs().max() > 0


@pytest.mark.parametrize("optimizer", [AdamP, torch.optim.AdamW])
def test_names_reach_the_optimizer(answer, optimizer):
    stepper = optimizer(answer[1].param_groups())
    assert stepper.param_groups[0]["param_names"] == ["0.weight", "3.weight"]
    named = dict(answer[0].named_parameters())
    for group in stepper.param_groups:
        assert all(named[name] is p for name, p in zip(group["param_names"], group["params"], strict=True))


@pytest.mark.parametrize("names", [True, False])
def test_parameters_are_plain_tensors_with_or_without_names(answer, names):
    groups = answer[1].param_groups(names=names)
    assert all(isinstance(p, torch.Tensor) for group in groups for p in group["params"])
    assert all(("param_names" in group) == names for group in groups)


def test_groups_without_names_can_be_dealt_out_to_processes(answer):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model, found = answer
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        stepper = ZeroRedundancyOptimizer(found.param_groups(names=False), AdamP, lr=1e-2)
        before = model[0].weight.detach().clone()
        model(images()).square().mean().backward()
        stepper.step()
    finally:
        distributed.destroy_process_group()
    assert not torch.equal(model[0].weight, before)
    assert [group["blocks"] for group in stepper.param_groups] == [Blocks(), None]


# Saving.


@pytest.mark.parametrize(
    "read", [lambda a: Invariances.from_json(a.to_json()), lambda a: pickle.loads(pickle.dumps(a))]
)
def test_an_answer_survives_saving(read):
    model = GPT(fused=True, tied=True)
    found = find_invariances(model, tokens())
    found["layers.0.up.weight"] = Blocks(dim=1, size=4)
    again = read(found)
    assert [again.verdict(name) for name in again] == [found.verdict(name) for name in found]
    assert (again.to_json(), again["head.weight"]) == (found.to_json(), None)
    with pytest.raises(ValueError, match=r"param_groups\(model\)"):
        again.param_groups()
    assert members(again.param_groups(model)) == set(found)


@pytest.mark.parametrize("text", ["[]", '{"version": 99}'])
def test_other_files_are_refused(text):
    with pytest.raises(ValueError, match="to_json"):
        Invariances.from_json(text)


# Reading.


def repeated(layers=32):
    norms = (Absorber("norm", "LayerNorm", "layer_norm"),)
    for i in range(layers):
        for part in ("q_proj", "k_proj"):
            blocks = Blocks(size=64)
            yield Verdict(f"model.layers.{i}.{part}.weight", (512, 512), "groups", blocks, 1e-16, absorbers=norms)
        yield Verdict(f"model.layers.{i}.mlp.weight", (512, 512), "none")


def test_repeated_layers_are_one_line():
    lines = str(Invariances(repeated())).splitlines()
    assert lines[0] == "96 parameters: 64 groups, 32 none"
    assert len(lines) == 2 + 3
    assert lines[2].split()[:5] == ["model.layers.{0-31}.q_proj.weight", "x32", "groups", "of", "64"]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(Invariances(repeated())).splitlines()
    assert max(map(len, lines)) <= width
    assert all("q_proj.weight" in line or "k_proj.weight" in line for line in lines if "groups of" in line)


def test_the_table_says_what_was_set_and_what_is_joint(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    found = find_invariances(nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(6, 12))
    found["2.weight"] = Blocks(size=None)
    text = str(found)
    assert "invariant only jointly with its neighbour; not projected" in text
    assert "set by you" in text
    assert repr(found) == "<Invariances of 6 parameters: 3 none, 2 joint, 1 layer>"


def test_vectors_are_folded_below_the_weights_and_those_with_blocks_are_not():
    vectors = [Verdict(f"norm{i}.{end}", (8,), "none") for i in range(2) for end in ("weight", "bias")]
    gain = Verdict("gain", (8,), "layer", Blocks(size=None), 1e-16)
    found = [*vectors, Verdict("last.weight", (8, 3), "none"), gain]
    assert [(row.names, row.count) for row in table.rows(found)] == [
        ("last.weight", 1),
        ("gain", 1),
        ("*.{bias,weight}", 4),
    ]


@settings(max_examples=50)
@given(st.lists(st.text("ab.0", min_size=1, max_size=30), min_size=1, unique=True), st.integers(8, 24))
def test_names_that_are_cut_stay_different(names, room):
    cut = table.shortened(names, room)
    assert len(set(cut)) == len(names)
    assert cut == tuple(names) or all(len(name) <= room for name in cut)


def test_a_notebook_shows_the_table_and_runs_nothing():
    shown = Invariances([Verdict("<script>", (8, 3), "none")], notes=["a < b"])._repr_html_()
    assert "<td>&lt;script&gt;</td>" in shown and "<p>a &lt; b</p>" in shown and "<script" not in shown


def test_patterns_stand_for_exactly_their_names():
    names = ["a.0.c1.w", "a.0.c2.w", "a.1.c1.w", "a.1.c2.w", "b.0.c1.w", "a.2.c1.w", "x"]
    assert collapsed(names) == [
        ("a.{0-1}.c{1-2}.w", [0, 1, 2, 3]),
        ("b.0.c1.w", [4]),
        ("a.2.c1.w", [5]),
        ("x", [6]),
    ]
    assert collapsed(["l1.c1", "l3.c1", "l4.c1"]) == [("l{1,3-4}.c1", [0, 1, 2])]


def test_names_lose_wrappers_only():
    assert unprefixed("module.a._orig_mod.modules.0.weight") == "a.modules.0.weight"
    assert matching("a.*", ["module.a.w", "b.a.w"]) == ["module.a.w"]


def test_a_name_that_could_be_two_weights_is_refused():
    """A submodule may be called like a wrapper's prefix."""
    found = Invariances([Verdict("a.w", (2, 2), "channel", Blocks()), Verdict("a.module.w", (2, 2), "none")])
    assert found["a.w"] == Blocks() and found["a.module.w"] is None
    for refused in (lambda: found["module.a.w"], lambda: found.__setitem__("module.a.w", None)):
        with pytest.raises(KeyError, match=r"could be 'a\.module\.w' or 'a\.w'"):
            refused()
    assert found["a.w"] == Blocks()


def test_weights_that_were_one_when_analysed_are_not_merged():
    found = Invariances([Verdict("0.weight", (3, 3), "channel", Blocks())], aliases={"1.weight": "0.weight"})
    untied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    with pytest.raises(ValueError, match=r"'1\.weight' of the model is '0\.weight' in the answer, and so is another"):
        found.param_groups(untied)
    untied[1].weight = untied[0].weight
    assert members(found.param_groups(untied)) == {"0.weight"}


@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"])
@pytest.mark.parametrize("inner", ["{}.weight", "{}._checkpoint_wrapped_module.weight"])
def test_a_wrappers_prefix_means_the_same_weight_everywhere(prefix, inner, answer):
    """Groups, overrides, patterns, parts, telemetry and what does not decay."""
    model, found = answer
    name = f"{prefix}.{inner.format(0)}"
    assert found[name] == found["0.weight"] and list(found.select(name)) == ["0.weight"]
    wrapped = nn.ModuleDict({prefix: model})
    assert members(found.param_groups(wrapped, no_decay=name, weight_decay=0.1)) == set(dict(model.named_parameters()))
    groups = found.param_groups(wrapped, no_decay=[f"{prefix}.0.*"], weight_decay=0.1)
    assert all(("0.weight" in group["param_names"]) <= (group["weight_decay"] == 0) for group in groups)
    telemetry = watch(AdamP(groups), names=wrapped.named_parameters(), invariances=found)
    kinds = {weight.name: weight.kind for weight in telemetry._watch_list.weights()}
    assert kinds[f"{prefix}.0.weight"] == "channel"
    copy = Invariances.from_json(found.to_json())
    copy[f"{prefix}.0.*"] = None
    assert copy["0.weight"] is None and copy["3.weight"] is not None


def test_a_name_that_matches_nothing_is_an_error_everywhere(answer):
    model, found = answer
    optimizer = AdamP(found.param_groups())
    for refused in (
        lambda: found["nowhere"],
        lambda: found.__setitem__("nowhere", None),
        lambda: found.__setitem__("nowhere.*", None),
        lambda: found.select("nowhere.*"),
        lambda: found.explain("nowhere"),
        lambda: found.param_groups(no_decay="nowhere.*"),
        lambda: found.param_groups(nn.ModuleDict({"nowhere": model})),
        lambda: watch(optimizer, invariances={"nowhere": None}),
        lambda: watch(optimizer, names={"nowhere": nn.Parameter(torch.ones(2, 2))}),
    ):
        with pytest.raises((KeyError, ValueError), match=r"nowhere|names has none"):
            refused()


def test_rich_draws_the_same_lines():
    console = pytest.importorskip("rich.console").Console(width=160, record=True, file=io.StringIO())
    console.print(Invariances(repeated()))
    drawn = console.export_text()
    assert "model.layers.{0-31}.q_proj.weight" in drawn
    assert "groups of 64" in drawn


def test_a_part_of_the_answer_is_an_answer(answer):
    _, found = answer
    assert list(found.select("0.*")) == ["0.weight", "0.bias"]
    assert list(found.select(kind="channel")) == ["0.weight", "3.weight"]
    assert list(found.select("0.*", kind="dead")) == ["0.bias"]
    assert members(found.select("0.*").param_groups()) == {"0.weight", "0.bias"}
    with pytest.raises(ValueError, match="channel, groups"):
        found.select(kind="rows")


def test_explanations_say_what_why_and_how_sure(answer):
    _, found = answer
    words = found.explain("0.weight")
    assert words.startswith("0.weight (8x3x3x3): channel. Each of its 8 blocks of 27 elements may be rescaled")
    assert "absorbed by 1 (BatchNorm2d, batch_norm)" in words
    assert "with the model's own epsilons" in words
    assert found.explain("0.bias").endswith("It is never projected.")
    assert found.explain("7.weight").startswith("7.weight (5x288): none. It is scale-variant")

"""State written for other optimizers: they go on exactly as ours would have, or the export is refused."""

import copy
import io

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, every, trained
from support.weights import gap, run, weights
from tangential import SGDP, AdamP, Blocks, export_state

foreign = pytest.importorskip("support.foreign_optimizers")
EXPORTED = foreign.EXPORTED
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
SHAPES = [(6, 5), (4, 3), (7,)]


def other(who, steps=20):
    """Ours after some steps, the optimizer that goes on, and the weights of each."""
    ours, settings, cls, required = EXPORTED[who]
    mine = weights(shapes=SHAPES)
    optimizer = ours(mine, **settings)
    run(optimizer, mine, steps)
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    target = cls(theirs, **required)
    target.load_state_dict(export_state(optimizer, who.split()[0].strip(",")))
    return optimizer, mine, target, theirs


@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize("who", EXPORTED)
def test_the_other_optimizer_goes_on_as_ours_would_have(who, steps):
    optimizer, mine, target, theirs = other(who, steps)
    if who == "sgd, dampened" and not steps:
        return  # torch's first step is not dampened
    assert gap(run(optimizer, mine, 20), run(target, theirs, 20)) < 1e-12
    for p, q in zip(mine, theirs, strict=True):
        if "exp_avg" in optimizer.state[p]:
            there = target.state[q].get("step", target.param_groups[0].get("step"))
            assert there == optimizer.state[p]["step"] == steps + 20


@pytest.mark.parametrize("who", EXPORTED)
def test_there_and_back_is_the_same_state(who):
    optimizer, mine, target, _ = other(who)
    again = type(optimizer)([p.detach().clone() for p in mine], blocks=optimizer.param_groups[0]["blocks"])
    again.load_state_dict(copy.deepcopy(target.state_dict()))
    for p, q in zip(mine, again.param_groups[0]["params"], strict=True):
        for key in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            if key in again.state[q]:
                assert torch.equal(again.state[q][key], optimizer.state[p][key])
    for key in ("lr", "weight_decay", "nesterov"):
        assert again.param_groups[0][key] == optimizer.param_groups[0][key]


@every
@pytest.mark.parametrize("format", ["timm", "pytorch_optimizer"])
def test_what_is_exported_shares_no_memory_and_is_plain(name, format):
    optimizer, params = trained(name)
    found = export_state(optimizer, format)
    before = copy.deepcopy(found)
    run(optimizer, params, 2)
    assert str(found) == str(before)
    file = io.BytesIO()
    torch.save(found, file)
    file.seek(0)
    assert str(torch.load(file, weights_only=True)) == str(found)


def test_names_and_notes_of_schedulers_come_along():
    w = weights(shapes=[(4, 3)])[0]
    optimizer = AdamP([dict(params=[("conv", w)], initial_lr=0.5)], blocks=None)
    run(optimizer, [w], 1)
    [group] = export_state(optimizer, "adamw")["param_groups"]
    assert group["param_names"] == ["conv"] and group["initial_lr"] == 0.5
    assert {*group} == {*torch.optim.AdamW([("conv", w)]).state_dict()["param_groups"][0], "initial_lr"}


def test_a_learning_rate_in_a_tensor_is_a_number_of_its_own():
    w = weights(shapes=[(4, 3)])[0]
    lr = torch.tensor(0.25)
    optimizer = AdamP([w], lr=lr, blocks=None)
    [group] = export_state(optimizer, "adamw")["param_groups"]
    assert group["lr"] == 0.25 and not isinstance(group["lr"], torch.Tensor)


WEIGHT = [(4, 6)]
MOMENTUM = dict(momentum=0.9)
REFUSED = {
    "cosine into AdamW": (AdamP, {}, "adamw", "projection", r"projected steps of blocks='cosine'"),
    "blocks into AdamW": (AdamP, dict(blocks=Blocks()), "adamw", "projection", r"blocks=Blocks"),
    "Nesterov into AdamW": (AdamP, dict(blocks=None, nesterov=True), "adamw", "nesterov", "nesterov=True"),
    "blocks into adamp": (AdamP, dict(blocks=Blocks()), "adamp", "projection", "it tests the cosine"),
    "sticky into adamp": (AdamP, dict(blocks="sticky"), "adamp", "projection", "blocks='sticky'"),
    "maximize into adamp": (AdamP, dict(maximize=True), "adamp", "maximize", "maximize=True"),
    "cosine into SGD": (SGDP, dict(momentum=0.9), "sgd", "projection", "projects nothing"),
    "decay into SGD": (
        SGDP,
        dict(**MOMENTUM, weight_decay=0.1, blocks=None),
        "sgd",
        "weight_decay",
        "adds it to gradients",
    ),
    "plain momentum into adamp": (SGDP, dict(momentum=0.9), "adamp", "momentum", "projects the buffer in place"),
    "plain momentum into torch_optimizer": (SGDP, dict(momentum=0.9), "torch_optimizer", "momentum", "in place"),
    "maximize into timm": (SGDP, dict(maximize=True), "timm", "maximize", "it descends"),
}


@pytest.mark.parametrize("who", REFUSED)
def test_what_the_other_would_not_continue_is_refused_with_the_way_out(who, caplog):
    ours, settings, format, name, words = REFUSED[who]
    params = weights(shapes=WEIGHT)
    optimizer = ours(params, **settings)
    run(optimizer, params, 2)
    with pytest.raises(ValueError, match=rf"{words}.*allow=\('{name}',\)"):
        export_state(optimizer, format)
    with caplog.at_level("INFO", "tangential"):
        assert export_state(optimizer, format, allow=(name,))["state"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] and words.replace("\\", "") in caplog.text


def test_step_counts_that_differ_are_refused_where_one_is_kept_for_the_group():
    params = weights(shapes=SHAPES)
    optimizer = AdamP(params)
    run(optimizer, params[:2], 1)
    params[0].grad = None
    run(optimizer, params[1:], 1)
    with pytest.raises(ValueError, match=r"step counts \[1, 2, 1\].*allow=\('step',\)"):
        export_state(optimizer, "pytorch_optimizer")
    assert export_state(optimizer, "pytorch_optimizer", allow="step")["param_groups"][0]["step"] == 2
    assert [own["step"] for own in export_state(optimizer, "adamp")["state"].values()] == [1, 2, 1]


def test_small_differences_are_named_in_the_log(caplog):
    optimizer, _ = trained("adamp", maximize=True)
    export_state(optimizer, "pytorch_optimizer")
    assert "eps added after" in caplog.text and "construct it so" in caplog.text
    optimizer = SGDP(weights(shapes=SHAPES), momentum=0.9, dampening=0.5, blocks=None)
    export_state(optimizer, "sgd")
    assert "dampening of the first gradient" in caplog.text


def test_remainders_of_half_weights_are_named_as_lost(caplog):
    for compensation, lost in (("auto", "the remainders of half-precision weights"), (None, "nothing")):
        params = weights(torch.bfloat16)
        optimizer = AdamP(params, compensation=compensation)
        run(optimizer, params, 1)
        caplog.clear()
        with caplog.at_level("INFO", "tangential"):
            exported = export_state(optimizer, "adamp")
        assert f"lost: {lost}" in caplog.text
        assert all("remainder" not in own for own in exported["state"].values())


@every
def test_unknown_formats_and_optimizers_are_refused(name):
    optimizer = MAKERS[name](weights(shapes=WEIGHT))
    with pytest.raises(ValueError, match=r"format='keras'.*adamp, timm, torch_optimizer, pytorch_optimizer"):
        export_state(optimizer, "keras")
    with pytest.raises(ValueError, match="is exported to"):
        export_state(optimizer, "sgd" if name == "adamp" else "adamw")
    with pytest.raises(TypeError, match="only SGDP and AdamP"):
        export_state(torch.optim.AdamW(weights()), "adamw")


def test_groups_of_vectors_need_no_blocks_none():
    """The cosine test never fires for them."""
    p = nn.Parameter(torch.ones(3))
    optimizer = AdamP([p])
    run(optimizer, [p], 1)
    assert export_state(optimizer, "adamw")["state"][0]["step"] == 1

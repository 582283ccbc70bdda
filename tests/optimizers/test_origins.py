"""State of other optimizers: continued exactly where that can be, else refused with nothing changed."""

import copy

import pytest
import torch

from support.weights import gap, run, weights
from tangential import SGDP, AdamP, Blocks

foreign = pytest.importorskip("support.foreign_optimizers")
CONTINUED, REFUSED = foreign.CONTINUED, foreign.REFUSED
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
SHAPES = [(6, 5), (4, 3), (7,)]


def trained(cls, settings, steps):
    params = weights(shapes=SHAPES)
    optimizer = cls(params, **settings)
    run(optimizer, params, steps)
    return optimizer, params


@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize("who", CONTINUED)
def test_a_run_of_another_package_goes_on_as_it_would_have(who, steps):
    cls, settings, ours = CONTINUED[who]
    other, theirs = trained(cls, settings, steps)
    mine = [p.detach().clone().requires_grad_() for p in theirs]
    torchs = cls.__module__.startswith("torch.")
    optimizer = ours(mine, lr=7.0, blocks=None if torchs else "cosine")
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    if steps == 0 and settings.get("dampening"):
        return  # torch starts its buffer from the first gradient
    assert gap(run(optimizer, mine, 20), run(other, theirs, 20)) < 1e-12
    if ours is AdamP:
        assert all(optimizer.state[p]["step"] == steps + 20 for p in mine)


@pytest.mark.parametrize("who", CONTINUED)
def test_settings_that_another_package_has_not_stay_our_own(who):
    cls, settings, ours = CONTINUED[who]
    other, _ = trained(cls, settings, 2)
    groups = [
        dict(params=weights(shapes=SHAPES)[:2], blocks=Blocks()),
        dict(params=weights(shapes=SHAPES)[2:], blocks=None),
    ]
    optimizer = ours(groups, delta=0.3, wd_ratio=0.5, eps=1e-3, nesterov=True, foreach=True)
    saved = other.state_dict()
    saved["param_groups"] = [{**saved["param_groups"][0], "params": ids} for ids in ([0, 1], [2])]
    optimizer.load_state_dict(saved)
    for group, blocks in zip(optimizer.param_groups, (Blocks(), None), strict=True):
        assert (group["blocks"], group["foreach"], group["fused"]) == (blocks, True, None)
        for key, own in (("delta", 0.3), ("wd_ratio", 0.5), ("eps", 1e-3), ("nesterov", True)):
            assert group[key] == saved["param_groups"][0].get(key, own)
        assert group["lr"] == settings["lr"]


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("who", REFUSED)
def test_what_would_not_go_on_alike_is_refused_and_nothing_is_loaded(who, stepped):
    cls, settings, ours, message = REFUSED[who]
    params = weights(shapes=SHAPES[:2])
    other = cls(params, **settings)
    run(other, params, 2 * stepped)
    mine = weights(shapes=SHAPES[:2])
    optimizer = ours(mine, lr=0.1)
    run(optimizer, mine, 3)
    before, groups = str(optimizer.state_dict()), [id(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(other.state_dict())
    assert str(optimizer.state_dict()) == before
    assert [id(group) for group in optimizer.param_groups] == groups


def test_the_ways_out_of_a_refusal_work():
    other, params = trained(torch.optim.Adam, dict(lr=0.01, weight_decay=0.1), 3)
    saved = other.state_dict()
    saved["param_groups"][0]["decoupled_weight_decay"] = True
    optimizer = AdamP(params)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    other, params = trained(torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.1), 3)
    saved = other.state_dict()
    saved["param_groups"][0]["weight_decay"] = 0
    optimizer = SGDP(params, lr=0.1)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_adamw_of_a_torch_that_recorded_no_kind_of_decay_is_read_without_decay_and_else_refused():
    for decay in (0.0, 0.1):
        other, params = trained(torch.optim.AdamW, dict(lr=0.01, weight_decay=decay), 3)
        saved = other.state_dict()
        del saved["param_groups"][0]["decoupled_weight_decay"]
        optimizer = AdamP(params)
        if decay:
            with pytest.raises(ValueError, match="did not record"):
                optimizer.load_state_dict(saved)
        else:
            optimizer.load_state_dict(saved)


def test_a_run_of_adamw_becomes_one_of_adamp_with_known_blocks():
    """One group of named parameters, loaded into groups by blocks: each parameter keeps its own moments."""
    params = weights(shapes=SHAPES)
    names = ["conv", "head", "bias"]
    other = torch.optim.AdamW(list(zip(names, params, strict=True)), lr=0.01)
    run(other, params, 3)
    groups = [
        dict(params=[("bias", params[2])], blocks=None),
        dict(params=[("head", params[1]), ("conv", params[0])], blocks=Blocks()),
    ]
    optimizer = AdamP(groups, lr=7.0)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    for p in params:
        assert torch.equal(optimizer.state[p]["exp_avg"], other.state[p]["exp_avg"])
        assert optimizer.state[p]["step"] == 3
    assert [group["param_names"] for group in optimizer.param_groups] == [["bias"], ["head", "conv"]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
    run(optimizer, params, 2)

"""State of other optimizers: continued exactly where that can be, else refused with nothing changed."""

import copy
import re

import pytest
import torch

from support.weights import gap, run, weights
from tangential import SGDP, AdamP, Blocks

foreign = pytest.importorskip("support.foreign_optimizers")
CONTINUED, REPORTED, REFUSED = foreign.CONTINUED, foreign.REPORTED, foreign.REFUSED
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
    optimizer = ours(mine, lr=7.0, blocks="cosine" if "wd_ratio" in other.defaults else None)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    if steps == 0 and settings.get("dampening"):
        return  # torch starts its buffer from the first gradient
    assert gap(run(optimizer, mine, 20), run(other, theirs, 20)) < 1e-12
    if ours is AdamP:
        assert all(optimizer.state[p]["step"] == steps + 20 for p in mine)


LOSSES = {who for who in CONTINUED if "pytorch_optimizer" in who and "AdamP" in who} | {"torch SGD, dampened"}


def lines(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "tangential"]


@pytest.mark.parametrize("who", CONTINUED)
def test_one_line_of_the_log_states_what_was_taken_filled_and_lost(who, caplog):
    cls, settings, ours = CONTINUED[who]
    other, _ = trained(cls, settings, 3)
    params = weights(shapes=SHAPES)
    with caplog.at_level("INFO", "tangential"):
        ours(params).load_state_dict(other.state_dict())
    [(level, line)] = lines(caplog)
    head, taken, filled, lost = re.split(r": taken: |; filled from its own: |; lost: ", line)
    assert head.startswith(f"{ours.__name__} goes on from the state of ")
    count = sum(any(x is not None for x in own.values()) for own in other.state.values())
    assert f"{'exp_avg, exp_avg_sq' if ours is AdamP else 'momentum_buffer'} of {count} parameters" in taken
    assert {"lr", "weight_decay"} <= {*taken.split(", ")} and "blocks" in filled.split(", ")
    assert (lost == "nothing") == (level == "INFO") == (who not in LOSSES)


@pytest.mark.parametrize("who", REPORTED)
def test_what_differs_by_a_rounding_or_a_slip_of_the_package_is_read_with_a_warning(who, caplog):
    cls, settings, ours, words, bound = REPORTED[who]
    other, theirs = trained(cls, settings, 20)
    mine = [p.detach().clone().requires_grad_() for p in theirs]
    optimizer = ours(mine)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    [(level, line)] = lines(caplog)
    assert level == "WARNING" and words in line.split("lost: ")[1]
    assert 1e-12 < gap(run(optimizer, mine, 20), run(other, theirs, 20)) < bound


@pytest.mark.parametrize("name", ["adamp", "sgdp"])
def test_our_own_state_is_loaded_without_a_line(name, caplog):
    params = weights(shapes=SHAPES)
    optimizer = (AdamP if name == "adamp" else SGDP)(params)
    run(optimizer, params, 2)
    with caplog.at_level("DEBUG", "tangential"):
        optimizer.load_state_dict(optimizer.state_dict())
    assert not lines(caplog)


ALLOWED = {
    "AdamW, amsgrad": (("amsgrad",), "amsgrad=True", "max_exp_avg_sq"),
    "Adam, coupled decay": (("coupled_weight_decay",), "weight decay added to the gradient", ""),
    "NAdam": ("nadam", "schedule of momentum", "mu_product"),
    "NAdam, decayed": ({"nadam", "coupled_weight_decay"}, "schedule of momentum", "mu_product"),
    "RAdam": (["radam"], "rectification", ""),
    "timm AdamP, cautious": (("caution",), "caution=True", ""),
    "timm AdamW, amsgrad": (("amsgrad",), "amsgrad=True", "max_exp_avg_sq"),
    "timm AdamW, clipped": (("clipping_threshold",), "clipping_threshold=1.0", ""),
    "timm NAdam": (("nadam",), "schedule of momentum", "m_schedule"),
    "timm SGDP, cautious": (("caution",), "caution=True", ""),
    "timm SGDW, corrected": (("corrected_weight_decay",), "decay that shrinks with lr", ""),
    "SGD, coupled decay": (("coupled_weight_decay",), "weight decay added to the gradient", ""),
    "pytorch_optimizer AdamP, adanorm": (("adanorm",), "adanorm=True", "exp_grad_adanorm"),
    "pytorch_optimizer AdamP, fixed decay": (("fixed_decay",), "fixed_decay=True", ""),
    "pytorch_optimizer AdamP, coupled decay": (("coupled_weight_decay",), "weight decay added", ""),
}


@pytest.mark.parametrize("who", ALLOWED)
def test_what_is_allowed_to_be_lost_is_lost_and_named_and_steps_go_on(who, caplog):
    cls, settings, ours, _ = REFUSED[who]
    allow, words, entry = ALLOWED[who]
    other, params = trained(cls, settings, 3)
    optimizer = ours(params, lr=7.0)
    with pytest.raises(ValueError, match="allow="):
        optimizer.load_state_dict(other.state_dict(), allow=("nothing that is there",))
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()), allow=allow)
    [(level, line)] = lines(caplog)
    assert level == "WARNING" and words in line.split("lost: ")[1] and entry in line.split("lost: ")[1]
    moment = "exp_avg" if ours is AdamP else "momentum_buffer"
    theirs = "exp_avg" if ours is AdamP else next(iter(other.state[params[0]]))
    for p in params:
        assert set(optimizer.state[p]) == ({"step", "exp_avg", "exp_avg_sq"} if ours is AdamP else {"step", moment})
        assert torch.equal(optimizer.state[p][moment], other.state[p][theirs])
        assert ours is SGDP or optimizer.state[p]["step"] == 3
    assert optimizer.param_groups[0]["lr"] == settings["lr"]
    run(optimizer, params, 2)


def test_settings_of_a_later_version_are_refused_until_they_are_deleted():
    other, params = trained(torch.optim.AdamW, dict(lr=0.01), 1)
    saved = copy.deepcopy(other.state_dict())
    saved["param_groups"][0]["lookahead"] = 5
    optimizer = AdamP(params)
    with pytest.raises(ValueError, match=r"it has \['lookahead'\], which Adam or AdamW of torch had not"):
        optimizer.load_state_dict(saved, allow=("lookahead",))
    del saved["param_groups"][0]["lookahead"]
    optimizer.load_state_dict(saved)


def test_names_that_are_given_to_a_state_later_match_it():
    """AdamW of `model.parameters()` into groups by blocks, as the documents show it."""
    other, params = trained(torch.optim.AdamW, dict(lr=0.01), 2)
    saved = other.state_dict()
    saved["param_groups"][0]["param_names"] = ["conv", "head", "bias"]
    groups = [dict(params=[("bias", params[2])]), dict(params=[("head", params[1]), ("conv", params[0])])]
    optimizer = AdamP(groups)
    optimizer.load_state_dict(saved)
    assert all(torch.equal(optimizer.state[p]["exp_avg"], other.state[p]["exp_avg"]) for p in params)


def test_a_parameter_without_a_gradient_so_far_goes_on_with_the_count_of_its_group():
    """pytorch_optimizer corrects its first step by the count of the group, and so do we."""
    cls, settings, _ = CONTINUED["pytorch_optimizer AdamP"]
    params = weights(shapes=SHAPES)
    other = cls(params, **settings)
    for _ in range(5):
        params[0].grad = torch.ones_like(params[0])
        other.step()
    mine = [p.detach().clone().requires_grad_() for p in params]
    optimizer = AdamP(mine)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    assert gap(run(optimizer, mine, 5), run(other, params, 5)) < 1e-12


def test_distributed_checkpoints_of_one_group_go_into_several():
    """Their ids are names, and the settings stand in one group alone."""
    names = ["conv", "head", "bias"]
    other, params = trained(torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1), 3)
    saved = copy.deepcopy(other.state_dict())
    whole = dict(saved["param_groups"][0], params=names)
    state = {name: saved["state"][i] for i, name in enumerate(names)}
    groups = [dict(params=[("bias", params[2])], blocks=None), dict(params=[("head", params[1]), ("conv", params[0])])]
    parted = [dict(params=["bias"]), dict(whole, params=["head", "conv"])]
    for given in ([whole], parted):
        optimizer = AdamP(groups, lr=7.0)
        optimizer.load_state_dict(dict(state=state, param_groups=given))
        assert all(torch.equal(optimizer.state[p]["exp_avg"], other.state[p]["exp_avg"]) for p in params)
        assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.01, 0.1)] * 2


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

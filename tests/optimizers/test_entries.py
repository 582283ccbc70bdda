"""Entries of a loaded state: each is brought into the one form that a step expects, or refused."""

import copy

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, MOMENTS, every, same, trained
from support.weights import run, weights
from tangential import AdamP

SHAPES = [(4, 6), (6, 5)]


def first_moment(saved):
    own = saved["state"][0]
    return next(key for key in own if key not in ("step", "votes", "projected"))


def put(key, value):
    def change(saved):
        name = first_moment(saved) if key == "moment" else key
        saved["state"][0][name] = value(saved["state"][0][name]) if callable(value) else value

    return change


def drop(key):
    return lambda saved: saved["state"][0].pop(first_moment(saved) if key == "moment" else key)


def group(**settings):
    return lambda saved: saved["param_groups"][0].update(settings)


BAD_STATE = {
    "moment of another shape": (put("moment", lambda m: m.t()), "has shape"),
    "moment of as many elements": (put("moment", lambda m: m.reshape(-1)), "has shape"),
    "moment that is smaller": (put("moment", lambda m: m[:1]), "has shape"),
    "moment that broadcasts": (put("moment", lambda m: m[:, :1]), "has shape"),
    "empty moment": (put("moment", lambda m: m[:0]), "has shape"),
    "scalar moment": (put("moment", torch.tensor(0.0)), "has shape"),
    "moment of integers": (put("moment", lambda m: m.long()), "int64"),
    "complex moment": (put("moment", lambda m: m.to(torch.complex64)), "complex64"),
    "sparse moment": (put("moment", lambda m: m.to_sparse()), "sparse_coo"),
    "moment on no device": (put("moment", lambda m: m.to("meta")), "meta device"),
    "NaN": (put("moment", lambda m: m.index_fill(0, torch.tensor([1]), float("nan"))), "not finite"),
    "infinity": (put("moment", lambda m: m * float("inf")), "not finite"),
    "overflow": (put("moment", lambda m: m.double() * 1e300 * 1e300), "not finite"),
    "moment as a list": (put("moment", lambda m: m.tolist()), "is a list"),
    "moment None": (put("moment", None), "is a NoneType"),
    "unknown entry on no device": (put("ema", torch.ones(2, device="meta")), "meta device"),
    "no moment": (drop("moment"), "is missing"),
    "no step": (drop("step"), "'step'"),
    "empty step": (put("step", torch.ones(0)), "one number"),
    "two steps": (put("step", torch.ones(2)), "one number"),
    "negative step": (put("step", torch.tensor(-1.0)), "whole number"),
    "broken step": (put("step", 2.5), "whole number"),
    "step NaN": (put("step", torch.tensor(float("nan"))), "whole number"),
    "step infinite": (put("step", float("inf")), "whole number"),
    "step as text": (put("step", "3"), "must be a number"),
    "step as a truth value": (put("step", True), "must be a number"),
    "complex step": (put("step", torch.tensor(1j)), "one number"),
    "state as a list": (lambda saved: saved["state"].update({0: [1]}), "is a list"),
    "state of nobody": (lambda saved: saved["state"].update({9: {}}), "no group has"),
    "state missing": (lambda saved: saved.pop("state"), "keys 'state' and 'param_groups'"),
    "groups missing": (lambda saved: saved.pop("param_groups"), "keys 'state' and 'param_groups'"),
    "groups as text": (lambda saved: saved.update(param_groups="abc"), "must be a list"),
    "group as a list": (lambda saved: saved.update(param_groups=[[0, 1]]), "must be a dict"),
    "ids twice": (group(params=[0, 0]), "come once"),
    "ids as lists": (group(params=[[0], [1]]), "integer or a name"),
    "too few ids": (lambda saved: (saved["state"].pop(1), group(params=[0])(saved)), "size of optimizer's group"),
    "blocks misspelt": (group(blocks="cosin"), "blocks='cosin'"),
    "blocks that do not fit": (group(blocks=(7, 1, None)), "cuts dimension 7"),
    "blocks of another form": (group(blocks=(0, -1, None)), "Blocks"),
    "lr below zero": (group(lr=-1.0), "lr=-1"),
    "lr as text": (group(lr="0.1"), "lr='0.1'"),
    "fused with foreach": (group(fused=True, foreach=True), "ask for one"),
    "sticky without votes": (group(blocks="sticky"), "without votes"),
    "decision too large": (put("projected", torch.tensor(7, dtype=torch.uint8)), r"in \[0, 2\]"),
    "decision empty": (put("projected", torch.ones(0, dtype=torch.uint8)), "must be integers"),
    "decision as a float": (put("projected", torch.tensor(1.0)), "must be integers"),
    "votes too short": (put("votes", torch.ones(1, dtype=torch.int32)), "must be integers"),
    "votes too many": (put("votes", torch.tensor([2, 3])), "more than its"),
    "votes negative": (put("votes", torch.tensor([-1, 0])), r"in \[0, 20\]"),
}


@every
@pytest.mark.parametrize(("change", "message"), BAD_STATE.values(), ids=BAD_STATE)
def test_state_that_does_not_fit_is_refused_and_nothing_is_loaded(name, change, message):
    optimizer, params = trained(name)
    for own in optimizer.state.values():
        own.setdefault("projected", torch.zeros((), dtype=torch.uint8))
        own.setdefault("votes", torch.zeros(2, dtype=torch.int32))
    saved = copy.deepcopy(optimizer.state_dict())
    if message == "without votes":
        for own in saved["state"].values():
            del own["votes"]
    change(saved)
    before = copy.deepcopy(optimizer.state_dict())
    kept = {p: dict(own) for p, own in optimizer.state.items()}
    groups = [dict(g) for g in optimizer.param_groups]
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(saved)
    assert str(optimizer.state_dict()) == str(before)
    assert all(optimizer.state[p][key] is value for p, own in kept.items() for key, value in own.items())
    assert all(
        now[key] is value for now, old in zip(optimizer.param_groups, groups, strict=True) for key, value in old.items()
    )
    run(optimizer, params, 1)


def test_squares_below_zero_are_refused():
    optimizer, _ = trained("adamp")
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][1]["exp_avg_sq"][0, 0] = -1e-9
    with pytest.raises(ValueError, match="parameter 1: exp_avg_sq is not finite, or below zero"):
        optimizer.load_state_dict(saved)


GOOD_STATE = {
    "negative bit": lambda m: torch.complex(m * 0, -m).conj().imag,
    "requires a gradient": lambda m: m.clone().requires_grad_(),
    "parameter": lambda m: nn.Parameter(m.clone()),
    "other strides": lambda m: m.t().contiguous().t(),
    "offset": lambda m: torch.cat([m, m])[m.shape[0] :],
    "with gaps": lambda m: torch.stack([m, m], -1)[..., 0],
    "double": lambda m: m.double(),
}


@every
@pytest.mark.parametrize("backend", [{}, dict(foreach=True), dict(foreach=False)], ids=str)
@pytest.mark.parametrize("form", GOOD_STATE.values(), ids=GOOD_STATE)
def test_moments_in_any_form_continue_alike(name, form, backend):
    params, others = weights(torch.float32, SHAPES), weights(torch.float32, SHAPES)
    first, second = MAKERS[name](params, **backend), MAKERS[name](others, **backend)
    for p, q in zip(run(first, params, 3), others, strict=True):
        q.data.copy_(p)
    saved = copy.deepcopy(first.state_dict())
    for own in saved["state"].values():
        own.update({key: form(own[key]) for key in MOMENTS[name]})
    second.load_state_dict(saved)
    assert same(run(first, params, 2), run(second, others, 2))


@every
@pytest.mark.parametrize("backend", [{}, dict(foreach=True), dict(foreach=False)], ids=str)
def test_entries_that_share_memory_get_their_own(name, backend):
    """One step count for all parameters, one zero for a whole moment, moments that are one tensor or the weight."""
    params, others = (weights(torch.float32, [(4, 6), (4, 6)]) for _ in range(2))
    first, second = MAKERS[name](params, **backend), MAKERS[name](others, **backend)
    zero, step = torch.zeros(1, 1), torch.tensor(5.0)
    keys = MOMENTS[name]
    saved = second.state_dict()
    shared = torch.full((4, 6), 0.5)
    saved["state"] = {
        0: {"step": step, **dict.fromkeys(keys, zero.expand(4, 6))},
        1: {"step": step, **dict.fromkeys(keys, shared)},
    }
    clean = copy.deepcopy(first.state_dict())
    clean["state"] = {
        i: {"step": step.clone(), **{k: v.clone() for k, v in own.items() if k in keys}}
        for i, own in saved["state"].items()
    }
    first.load_state_dict(clean)
    second.load_state_dict(saved)
    assert same(run(first, params, 3), run(second, others, 3))
    assert all(own["step"] == 8 for own in second.state.values())


@every
def test_a_moment_that_is_its_weight_becomes_a_copy(name):
    w = nn.Parameter(torch.ones(4, 6))
    optimizer = MAKERS[name]([w])
    saved = optimizer.state_dict()
    saved["state"] = {0: {"step": 1, **dict.fromkeys(MOMENTS[name], w.detach())}}
    optimizer.load_state_dict(saved)
    run(optimizer, [w], 1)
    assert all(optimizer.state[w][key].data_ptr() != w.data_ptr() for key in MOMENTS[name])


@every
@pytest.mark.parametrize("step", [3, 3.0, torch.tensor(3), torch.tensor([3.0]), torch.tensor([[3]], dtype=torch.int16)])
def test_step_counts_in_any_form_become_one(name, step):
    optimizer, params = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    for own in saved["state"].values():
        own["step"] = step
    optimizer.load_state_dict(saved)
    run(optimizer, params, 1)
    for own in optimizer.state.values():
        assert own["step"].dtype == torch.float32 and own["step"].shape == () and own["step"] == 4


@every
def test_what_a_user_keeps_beside_the_moments_is_kept(name):
    optimizer, params = trained(name)
    for p in params:
        optimizer.state[p]["ema"] = p.detach().clone()
    optimizer.state["epochs"] = {"seen": 3}
    again = MAKERS[name](params)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(torch.equal(again.state[p]["ema"], optimizer.state[p]["ema"]) for p in params)
    assert again.state["epochs"] == {"seen": 3}


def test_sticky_set_in_the_middle_of_a_run_is_refused_and_at_its_start_votes():
    optimizer, params = trained("adamp")
    optimizer.param_groups[0]["blocks"] = "sticky"
    with pytest.raises(ValueError, match="3 without votes"):
        run(optimizer, params, 1)
    optimizer, params = trained("adamp", steps=0, blocks="sticky")
    run(optimizer, params, 2)
    again = AdamP(params)
    again.load_state_dict(optimizer.state_dict())
    run(again, params, 1)

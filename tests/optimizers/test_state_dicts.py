"""State dicts: saved, loaded, refused."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, MOMENTS, every, same
from support.weights import run, weights
from tangential import AdamP, Blocks


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("capturable", [False, True])
def test_loaded_state_continues_bit_for_bit(name, dtype, capturable):
    a = weights(dtype)
    first = MAKERS[name](a, capturable=capturable)
    run(first, a, 5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = MAKERS[name](b, capturable=capturable)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(run(first, a, 5), run(second, b, 5))
    assert str(first.state_dict()) == str(second.state_dict())


@every
def test_state_keys_are_torchs(name):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 1)
    assert all(set(own) == {"step", *MOMENTS[name]} for own in optimizer.state.values())
    assert all(own["step"].dtype == torch.float32 and own["step"].ndim == 0 for own in optimizer.state.values())


@every
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_continue_alike(name, clone):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 3)
    other = clone(optimizer)
    others = other.param_groups[0]["params"]
    assert same(run(optimizer, params, 3), run(other, others, 3))


@every
def test_state_of_another_optimizer_is_refused_and_nothing_is_loaded(name):
    params = weights()
    other = torch.optim.Adagrad(params)
    run(other, params, 1)
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    before = str(optimizer.state_dict())
    with pytest.raises(ValueError, match="saved by another optimizer"):
        optimizer.load_state_dict(other.state_dict())
    assert str(optimizer.state_dict()) == before


@every
def test_half_precision_moments_are_float32_and_stay_so_when_loaded(name):
    params = weights(torch.bfloat16)
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    for i, p in enumerate(params):
        for key in MOMENTS[name]:
            assert optimizer.state[p][key].dtype == torch.float32
            assert torch.equal(optimizer.state[p][key], saved["state"][i][key])


@every
def test_older_checkpoint_without_the_newer_keys_loads(name):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    saved = optimizer.state_dict()
    for key in ("blocks", "maximize", "foreach", "fused", "capturable", "differentiable"):
        del saved["param_groups"][0][key]
    for own in saved["state"].values():
        own["step"] = int(own["step"])
    optimizer.load_state_dict(saved)
    run(optimizer, params, 1)
    assert optimizer.state[params[0]]["step"] == 3


BLOCKS = {
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "pairs": Blocks(size=2),
    "inputs": Blocks(dim=1),
    "segments": Blocks(segments=((0, 2, 2), (3, 4, 1))),
    "cosine": "cosine",
    "sticky": "sticky",
    "none": None,
}
each_blocks = pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
SHAPES = [(4, 6), (6, 5)]


def trained(name, steps=3, shapes=SHAPES, **settings):
    params = weights(shapes=shapes)
    optimizer = MAKERS[name](params, **settings)
    run(optimizer, params, steps)
    return optimizer, params


def reloaded(saved):
    """What `torch.load` makes of it with its defaults."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file)


def only_plain(value):
    if isinstance(value, dict):
        return all(only_plain(x) for pair in value.items() for x in pair)
    if type(value) in (list, tuple):
        return all(map(only_plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


@every
@each_blocks
def test_state_dicts_hold_plain_values_and_groups_come_back(name, blocks):
    optimizer, params = trained(name, blocks=blocks)
    saved = optimizer.state_dict()
    assert only_plain(saved) and only_plain(reloaded(saved))
    assert optimizer.param_groups[0]["blocks"] is blocks  # the live group keeps its object
    again, others = trained(name, steps=0, blocks=None)
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p)
    again.load_state_dict(reloaded(saved))
    assert again.param_groups[0]["blocks"] == blocks
    assert same(run(optimizer, params, 3), run(again, others, 3))


@every
@each_blocks
def test_state_dicts_of_version_0_1_load(name, blocks):
    """They held the `Blocks` itself."""
    optimizer, params = trained(name, blocks=blocks)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["blocks"] = blocks
    again = MAKERS[name](params, blocks=None)
    again.load_state_dict(saved)
    assert str(again.state_dict()) == str(optimizer.state_dict())


@every
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_distributed_checkpoints_keep_blocks(name, flat, tmp_path):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    def made(blocks):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
        groups = [dict(params=list(net[0].parameters()), blocks=blocks), dict(params=list(net[1].parameters()))]
        optimizer = MAKERS[name](groups)
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        return get_optimizer_state_dict(net, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=flat))

    saved, loaded = made(Blocks(segments=((0, 2, 1),))), made(None)
    checkpoint.save(saved, checkpoint_id=tmp_path)
    checkpoint.load(loaded, checkpoint_id=tmp_path)
    assert str(loaded) == str(saved)


@every
@pytest.mark.parametrize("foreach", [False, True, None])
def test_settings_that_a_state_dict_lacks_stay(name, foreach):
    optimizer, _ = trained(name)
    saved = optimizer.state_dict()
    lacking = ("blocks", "delta", "nesterov", "foreach", "maximize", "eps")
    for key in lacking:
        del saved["param_groups"][0][key]
    mine = dict(blocks=Blocks(size=2), delta=0.3, nesterov=True, foreach=foreach, maximize=True, eps=1e-3)
    again = MAKERS[name](weights(shapes=SHAPES), **mine, wd_ratio=0.9)
    again.load_state_dict(saved)
    assert {key: again.param_groups[0][key] for key in lacking} == mine
    assert again.param_groups[0]["wd_ratio"] == 0.1


@every
def test_state_saved_before_the_first_step_loads(name):
    optimizer, _ = trained(name, steps=0)
    for read in (False, True):
        again, params = trained(name, steps=2 * read)
        again.load_state_dict(reloaded(optimizer.state_dict()))
        assert not any(again.state.values())
        run(again, params, 1)
        assert all(own["step"] == 1 for own in again.state.values())


@every
def test_reading_the_state_of_a_parameter_that_has_not_stepped_harms_nothing(name):
    optimizer, params = trained(name, steps=0)
    assert optimizer.state[params[0]] == {}
    saved = reloaded(optimizer.state_dict())
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), optimizer):
        other.load_state_dict(saved)
        run(other, other.param_groups[0]["params"], 2)


def named(name, order, **settings):
    """Three weights in groups of the given names."""
    params = dict(zip("abc", weights(shapes=[(4, 6), (4, 6), (5,)]), strict=True))
    kinds = dict(a=Blocks(), b="cosine", c=None)
    groups = [
        dict(params=[(n, params[n]) for n in names], blocks=kinds[names[-1]], **settings.get(names, {}))
        for names in order
    ]
    optimizer = MAKERS[name](groups)
    return optimizer, params


@every
@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]])
def test_named_groups_in_another_order_are_matched_by_name(name, order):
    first, params = named(name, ["a", "b", "c"], a=dict(lr=0.5), c=dict(weight_decay=0.25, initial_lr=3.0))
    run(first, list(params.values()), 3)
    second, others = named(name, order)
    second.load_state_dict(reloaded(first.state_dict()))
    for n, p in params.items():
        others[n].data.copy_(p)
        assert all(torch.equal(v, second.state[others[n]][k]) for k, v in first.state[p].items())
    by_name = {group["param_names"][0]: group for group in second.param_groups}
    assert [by_name[n]["lr"] for n in "abc"] == [0.5, 0.01, 0.01]
    assert [by_name[n]["blocks"] for n in "abc"] == [Blocks(), "cosine", None]
    assert by_name["c"]["weight_decay"] == 0.25 and by_name["c"]["initial_lr"] == 3.0
    assert same(run(first, list(params.values()), 2), run(second, list(others.values()), 2))


@every
def test_named_groups_may_be_split_but_not_joined_where_their_settings_differ(name):
    together, params = named(name, ["ba", "c"])
    run(together, list(params.values()), 2)
    apart, others = named(name, ["a", "b", "c"])
    apart.load_state_dict(together.state_dict())
    assert [group["blocks"] for group in apart.param_groups] == [Blocks(), Blocks(), None]
    assert torch.equal(apart.state[others["b"]]["step"], torch.tensor(2.0))
    apart.param_groups[0]["lr"] = 0.5
    with pytest.raises(ValueError, match=r"joins parameters of several saved groups, whose \['lr'\] differ"):
        together.load_state_dict(apart.state_dict())


@every
@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "module._orig_mod."]
)
def test_names_of_wrapped_models_are_those_of_the_model(name, prefix):
    first, params = named(name, ["a", "b", "c"])
    run(first, list(params.values()), 2)
    for wrapped, bare in ((True, False), (False, True)):
        saved = first.state_dict()
        second, others = named(name, ["c", "b", "a"])
        for groups, yes in ((saved["param_groups"], wrapped), (second.param_groups, bare)):
            for group in groups:
                group["param_names"] = [prefix * yes + n for n in group["param_names"]]
        second.load_state_dict(saved)
        moment = sorted(MOMENTS[name])[0]
        assert torch.equal(second.state[others["a"]][moment], first.state[params["a"]][moment])
        assert second.param_groups[0]["param_names"] == [prefix * bare + "c"]


@every
def test_state_of_parameters_with_other_names_is_refused(name):
    first, params = named(name, ["a", "b", "c"])
    run(first, list(params.values()), 1)
    saved = first.state_dict()
    saved["param_groups"][0]["param_names"] = ["z"]
    second, _ = named(name, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"lacks \['a'\] and has \['z'\].*param_names"):
        second.load_state_dict(saved)
    for group in saved["param_groups"]:  # the way out
        del group["param_names"]
    second.load_state_dict(saved)


@every
def test_unnamed_groups_in_another_order_are_refused_by_their_shapes(name):
    first, _ = trained(name, shapes=[(4, 6), (6, 5)])
    second, _ = trained(name, shapes=[(6, 5), (4, 6)], steps=1)
    with pytest.raises(ValueError, match=r"parameter 0: .* has shape \(4, 6\), but the weight has \(6, 5\)"):
        second.load_state_dict(first.state_dict())
    third = MAKERS[name]([dict(params=[p]) for p in weights(shapes=SHAPES)])
    with pytest.raises(ValueError, match="different number of parameter groups: 1, the optimizer 2"):
        third.load_state_dict(first.state_dict())
    fourth = MAKERS[name](weights(shapes=SHAPES[:1]))
    with pytest.raises(ValueError, match="has 2 parameters, the optimizer's 1"):
        fourth.load_state_dict(first.state_dict())


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


@every
@pytest.mark.parametrize("given", [None, 3, "state", [], {}, nn.Linear(2, 2).state_dict(), {"state": {}}])
def test_what_is_no_state_dict_is_refused(name, given):
    optimizer, _ = trained(name)
    with pytest.raises(TypeError, match="keys 'state' and 'param_groups'"):
        optimizer.load_state_dict(given)


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


@every
def test_hooks_see_and_change_what_is_loaded(name):
    optimizer, params = trained(name)
    again = MAKERS[name](params)
    seen = []

    def halve(_, given):
        own = {i: {**own, **{k: own[k] / 2 for k in MOMENTS[name]}} for i, own in given["state"].items()}
        return {**given, "state": own}

    again.register_load_state_dict_pre_hook(halve)
    again.register_load_state_dict_post_hook(
        lambda o: seen.append({k: v.clone() for k, v in o.state[params[0]].items()})
    )
    again.load_state_dict(optimizer.state_dict())
    moment = sorted(MOMENTS[name])[0]
    assert torch.equal(seen[0][moment], optimizer.state[params[0]][moment] / 2)
    again.register_load_state_dict_pre_hook(lambda _, given: {**given, "state": {0: {"step": torch.ones(())}}})
    with pytest.raises(ValueError, match="is missing"):
        again.load_state_dict(optimizer.state_dict())


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

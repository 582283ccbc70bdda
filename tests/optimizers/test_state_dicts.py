"""State dicts: saved, loaded, refused."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, MOMENTS, every, same, trained
from support.weights import run, weights
from tangential import Blocks


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
    for key in ("blocks", "maximize", "foreach", "fused", "capturable", "differentiable", "compensation"):
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
    lacking = ("blocks", "delta", "nesterov", "foreach", "maximize", "eps", "compensation")
    for key in lacking:
        del saved["param_groups"][0][key]
    mine = dict(
        blocks=Blocks(size=2), delta=0.3, nesterov=True, foreach=foreach, maximize=True, eps=1e-3, compensation=None
    )
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


@every
@pytest.mark.parametrize("given", [None, 3, "state", [], {}, nn.Linear(2, 2).state_dict(), {"state": {}}])
def test_what_is_no_state_dict_is_refused(name, given):
    optimizer, _ = trained(name)
    with pytest.raises(TypeError, match="keys 'state' and 'param_groups'"):
        optimizer.load_state_dict(given)


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

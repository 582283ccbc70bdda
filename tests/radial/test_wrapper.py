"""Manners of the wrapper: all that works around an optimizer works around it."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from support.radial_bases import BASES, ROWS, every_base, give_gradients, pair
from tangential import Blocks, Radial, find_invariances, watch
from tangential.radial import AdamH, Fix, NAdamP, Project, Rotate


def net(dtype=torch.float32):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    return nn.Sequential(*layers).to(dtype)


def batch(dtype=torch.float32):
    x = torch.linspace(-1, 1, 8 * 108, dtype=dtype).reshape(8, 3, 6, 6)
    return x.sin() * 3, torch.tensor([0, 1] * 4)


def loss_of(model):
    x, y = batch(next(model.parameters()).dtype)
    return nn.functional.cross_entropy(model(x), y)


def train(optimizer, model, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def wrapped(model, policy=None, base=torch.optim.AdamW, **settings):
    return Radial(base(model.parameters(), lr=1e-2), policy or Project(), {model[0].weight: ROWS}, **settings)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


METHODS = [name for name in vars(Radial) if inspect.isfunction(getattr(Optimizer, name, None)) and name[0] != "_"]


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_torchs_parameters(name):
    def shape(owner):
        return [(p.name, p.kind, p.default) for p in inspect.signature(getattr(owner, name)).parameters.values()]

    assert shape(Radial) == shape(Optimizer)
    assert {"step", "zero_grad", "state_dict", "load_state_dict", "add_param_group"} <= set(METHODS)


@every_base
def test_groups_and_state_are_the_bases_own_objects(base):
    w, v = pair()
    inner = BASES[base]([w, v])
    optimizer = Radial(inner, Project(), {w: ROWS})
    assert isinstance(optimizer, Optimizer) and optimizer.defaults is inner.defaults
    for _ in range(2):
        assert optimizer.param_groups is inner.param_groups and optimizer.state is inner.state
        give_gradients(w, v, 0)
        optimizer.step()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("of_base", [False, True])
def test_schedulers_reach_the_base(of_base):
    model = net()
    optimizer = wrapped(model)
    schedule = LambdaLR(optimizer.base if of_base else optimizer, lambda t: 0.5**t)
    for t in range(3):
        assert optimizer.base.param_groups[0]["lr"] == 1e-2 * 0.5**t
        train(optimizer, model, 1)
        schedule.step()


def test_a_momentum_scheduler_reaches_the_base():
    model = net()
    optimizer = wrapped(model)
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    train(optimizer, model, 1)
    schedule.step()
    assert optimizer.base.param_groups[0]["betas"][0] != 0.9


@pytest.mark.parametrize("split", [None, False])
def test_hooks_run_once_per_step(split):
    model = net()
    optimizer = wrapped(model, split=split)
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: seen.append(("global before", o))),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(("global after", o))),
        optimizer.register_step_pre_hook(lambda o, *_: seen.append(("before", o))),
        optimizer.register_step_post_hook(lambda o, *_: seen.append(("after", o))),
        optimizer.base.register_step_pre_hook(lambda o, *_: seen.append(("base before", o))),
        optimizer.base.register_step_post_hook(lambda o, *_: seen.append(("base after", o))),
        optimizer.register_state_dict_pre_hook(lambda o: seen.append(("save", o))),
        optimizer.register_state_dict_post_hook(lambda o, saved: seen.append(("saved", o))),
        optimizer.register_load_state_dict_pre_hook(lambda o, given: seen.append(("load", o))),
        optimizer.register_load_state_dict_post_hook(lambda o: seen.append(("loaded", o))),
    ]
    train(optimizer, model, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    names = [name for name, _ in seen]
    assert names[:6] == ["global before", "before", "base before", "base after", "after", "global after"]
    assert names[6:] == ["save", "saved", "load", "loaded"]
    assert all((owner is optimizer.base) == name.startswith("base") for name, owner in seen)
    for handle in handles:
        handle.remove()


def test_closures_are_evaluated_once_with_gradients():
    model, twin = net(), net()
    optimizer, other = wrapped(model), wrapped(twin)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    expected = loss_of(twin)
    assert optimizer.step(closure).item() == pytest.approx(expected.item())
    train(other, twin, 1)
    assert calls == [True] and same(model.parameters(), twin.parameters())


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scalers_are_obeyed(scale, fused):
    model, twin = net(), net()
    base = lambda params, **kw: torch.optim.AdamW(params, fused=fused, **kw)  # noqa: E731
    optimizer, plain = wrapped(model, base=base), wrapped(twin, base=base)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model)).backward()
        scaler.step(optimizer)
        scaler.update()
        train(plain, twin, 1)
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, float("inf"))
    scaler.step(optimizer)
    assert same(before, model.parameters())


def test_state_dicts_are_the_bases_with_entries_of_the_policy():
    model, twin, bare = net(), net(), net()
    optimizer = wrapped(model, Fix())
    train(optimizer, model, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq", "radial_radius"}
    again = wrapped(twin, Fix())
    again.load_state_dict(saved)
    assert torch.equal(again.state[twin[0].weight]["radial_radius"], saved["state"][0]["radial_radius"])
    torch.optim.AdamW(bare.parameters()).load_state_dict(saved)  # the bare base reads it too


def test_state_of_the_bare_base_continues_it():
    model = net()
    base = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(base, model, 3)
    twin = copy.deepcopy(model)
    optimizer = wrapped(twin, Fix())
    optimizer.load_state_dict(base.state_dict())
    norm = twin[0].weight.detach().flatten(1).norm(dim=1)
    train(optimizer, twin, 2)
    assert optimizer.state[twin[0].weight]["step"] == 5
    torch.testing.assert_close(twin[0].weight.detach().flatten(1).norm(dim=1), norm)


def test_loading_does_not_round_the_policys_state():
    """torch rounds all state to the dtype of its weight."""
    model = net(torch.bfloat16)
    optimizer = wrapped(model, Fix())
    train(optimizer, model, 1)
    radius = optimizer.state[model[0].weight]["radial_radius"].clone()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(optimizer.state[model[0].weight]["radial_radius"], radius)
    assert radius.dtype == torch.float64 and not torch.equal(radius, radius.bfloat16().double())


@every_base
@pytest.mark.parametrize("steps_before", [0, 1])
def test_state_can_be_made_before_the_first_step(base, steps_before):
    (w, v), (w2, v2) = pair(), pair()
    early = Radial(BASES[base]([w, v]), Fix(), {w: ROWS})
    late = Radial(BASES[base]([w2, v2]), Fix(), {w2: ROWS})
    for step in range(5):
        give_gradients(w, v, step)
        give_gradients(w2, v2, step)
        if step == steps_before:
            grads, weights, groups = [w.grad, v.grad], [w.detach().clone(), v.detach().clone()], str(early.param_groups)
            early.init_state()
            assert [w.grad, v.grad] == grads and same((w, v), weights) and str(early.param_groups) == groups
            assert all(early.state[p] for p in (w, v))
        early.step()
        late.step()
        assert torch.equal(w, w2) and torch.equal(v, v2)
    assert {key: set(own) for key, own in zip("wv", early.state.values(), strict=True)} == {
        key: set(own) for key, own in zip("wv", late.state.values(), strict=True)
    }


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("policy", [Project(), Fix(), Rotate(eta=0.01)])
def test_copies_go_on_alike(how, policy):
    model = net()
    optimizer = wrapped(model, policy)
    train(optimizer, model, 2)
    twin, other = how((model, optimizer))
    assert other.param_groups[0]["params"][0] is twin[0].weight
    assert same(train(optimizer, model, 3), train(other, twin, 3))


def test_a_copy_of_a_composition_is_one():
    model = net()
    optimizer = NAdamP(model.parameters(), lr=1e-2)
    train(optimizer, model, 2)
    twin, other = copy.deepcopy((model, optimizer))
    assert type(other) is NAdamP and same(train(optimizer, model, 3), train(other, twin, 3))


def test_groups_can_be_added_to_either():
    model = net()
    optimizer = Radial(torch.optim.AdamW([model[0].weight], lr=1e-2), Fix(), Blocks())
    optimizer.add_param_group({"params": [model[4].weight], "lr": 1e-3})
    optimizer.base.add_param_group({"params": [model[4].bias]})
    norms = [model[i].weight.detach().flatten(1).norm(dim=1) for i in (0, 4)]
    train(optimizer, model, 3)
    assert len(optimizer.state) == 3
    for i, norm in zip((0, 4), norms, strict=True):
        torch.testing.assert_close(model[i].weight.detach().flatten(1).norm(dim=1), norm)


def test_a_group_that_is_refused_is_not_added():
    model = net()
    optimizer = Radial(torch.optim.AdamW([dict(params=[model[0].weight], blocks=Blocks())]), Fix())
    with pytest.raises(ValueError, match="cosine test decides anew"):
        optimizer.add_param_group({"params": [model[4].weight]})
    assert len(optimizer.param_groups) == 1
    train(optimizer, model, 1)


def test_blocks_of_groups_are_used_and_saved_as_plain_values():
    model = net()
    found = find_invariances(model, batch()[0])
    optimizer = Radial(torch.optim.AdamW(found.param_groups(weight_decay=0.1), lr=1e-2), Fix())
    train(optimizer, model, 1)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    norm = model[0].weight.detach().flatten(1).norm(dim=1)
    train(optimizer, model, 2)
    torch.testing.assert_close(model[0].weight.detach().flatten(1).norm(dim=1), norm)
    assert any(isinstance(group["blocks"], Blocks) for group in optimizer.param_groups)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("by", ["found", "names"])
def test_invariances_are_found_by_name_and_by_the_analysed_parameters(named, by):
    model = net()
    found = find_invariances(model, batch()[0])
    given = found if by == "found" else {"module.0.weight": Blocks(), "0.weight.extra": None}
    params = model.named_parameters() if named else model.parameters()
    base = torch.optim.AdamW(params, lr=1e-2)
    if by == "names":
        message = "0.weight.extra" if named else "no names of these parameters"
        with pytest.raises(ValueError, match=message):
            Radial(base, Fix(), given)
        return
    optimizer = Radial(base, Fix(), given)
    norm = model[0].weight.detach().flatten(1).norm(dim=1)
    train(optimizer, model, 2)
    torch.testing.assert_close(model[0].weight.detach().flatten(1).norm(dim=1), norm)
    assert "radial_radius" not in optimizer.state[model[4].weight]


def test_watch_measures_the_whole_step():
    model = net()
    optimizer = Radial(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), Project(), {model[0].weight: Blocks()}
    )
    with watch(optimizer, every=1, names=model.named_parameters()) as telemetry:
        train(optimizer, model, 3)
    weights = telemetry.latest["weights"]
    assert abs(weights["0.weight"]["radial_update"]) < 1e-7 < abs(weights["4.weight"]["radial_update"])
    assert weights["0.weight"]["radial_momentum"] is not None


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_distributed_checkpoints_carry_both_states(tmp_path):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    def saved_of(model, optimizer):
        return {"optimizer": get_optimizer_state_dict(model, optimizer)}

    model, twin = net(), net()
    optimizer = wrapped(model, Fix())
    train(optimizer, model, 2)
    checkpoint.save(saved_of(model, optimizer), checkpoint_id=tmp_path, no_dist=True)
    twin.load_state_dict(model.state_dict())
    again = wrapped(twin, Fix())
    content = saved_of(twin, again)
    checkpoint.load(content, checkpoint_id=tmp_path, no_dist=True)
    set_optimizer_state_dict(twin, again, content["optimizer"])
    assert same(train(optimizer, model, 2), train(again, twin, 2))


def test_a_first_step_at_rate_zero_moves_nothing():
    """Checkpoint libraries take one to have a state."""
    for policy in (Project(), Fix(), Rotate(eta=lambda group: group["lr"])):
        w, v = pair(torch.float32)
        optimizer = Radial(torch.optim.AdamW([w, v], lr=0.0), policy, {w: ROWS})
        before = w.detach().clone()
        w.grad, v.grad = torch.zeros_like(w), torch.zeros_like(v)
        optimizer.step()
        assert torch.equal(w, before)


def test_steps_can_be_compiled():
    model, twin = net(), net()
    optimizer, other = wrapped(model), wrapped(twin)
    other.base.step = torch.compile(other.base.step, backend="eager")
    torch.testing.assert_close(train(optimizer, model, 3), train(other, twin, 3))


def test_the_wrappers_step_can_be_compiled():
    """In pieces: what surrounds the base's step breaks the graph."""
    model, twin = net(), net()
    optimizer, other = wrapped(model), wrapped(twin)
    plain, other.step = train(optimizer, model, 3), torch.compile(other.step, backend="eager")
    torch.testing.assert_close(plain, train(other, twin, 3))


def test_it_is_printed_with_policy_and_base():
    assert repr(AdamH([torch.ones(2, 2)])).startswith("AdamH (Fix(radius=None) over AdamW (")

"""What torch asks of its own optimizers, asked of SGDP and AdamP in every configuration and backend.

The statements are ours; the table of configurations goes through torch's own helpers. See `DOES_NOT_APPLY` for what is
left out.
"""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tangential import Blocks

pytest.importorskip("expecttest", reason="torch's table of optimizers imports it")
infos = pytest.importorskip("support.optimizer_infos")
INFOS, every_input = infos.INFOS, infos.every_input

DOES_NOT_APPLY = {
    "sparse gradients": "refused: a projection needs the whole of a block",
    "complex parameters as pairs": "vectors of pairs are matrices to the paper's test: compared where it is off",
    "foreach and fused off by default on a CPU": "both are on: they are faster there too",
    "a parameter twice in a group warns": "refused: it would step twice with one gradient",
    "fused on float64": "refused for `fused=True`: the kernel steps float32, bfloat16 and float16",
    "fused on the meta device": "refused for `fused=True`; with `fused=None` the optimizer may be made there",
    "step counts in the default dtype": "always float32, which the kernel counts in",
    "tensor lr with foreach needs capturable": "no such restriction",
    "error texts of torch": "ours name what came and what is allowed; ValueError where torch has RuntimeError",
    "DTensor parameters": "in worlds of processes, in tests/sharding",
    "peak memory of foreach, large tensors": "of CUDA devices; measured in benchmarks/",
}
"""Templates of torch's suite that are left out, or asked in another form, and why."""

each = pytest.mark.parametrize("entry", INFOS.values(), ids=INFOS)
pytestmark = [
    pytest.mark.slow,  # minutes together: every configuration with every backend
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]


def model(dtype=torch.float32):
    torch.manual_seed(1)
    layers = nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1), nn.Sigmoid()
    return nn.Sequential(*layers).to(dtype)


def made(entry, given, params, **settings):
    """An optimizer of this configuration; one that records its steps for autograd steps copies of leaves."""
    return entry.optim_cls(params, **{**copy.deepcopy(given.kwargs), **settings})


def train(optimizer, net, steps=4, schedules=()):
    x = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=next(net.parameters()).dtype)

    def closure():
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        loss = optimizer.step(closure)
        for schedule in schedules:
            schedule.step(loss) if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau) else schedule.step()
    return [p.detach().clone() for p in net.parameters()]


def inputs(entry, *backends):
    """Configurations with the backends that step leaves."""
    return every_input(entry, *(backends or ("automatic", "eager", "foreach", "fused")))


def equal(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, **tolerance)


@each
@pytest.mark.parametrize("schedule", range(1 + len(infos.SCHEDULES)))
def test_loss_goes_down_under_schedules(entry, schedule):
    for given in inputs(entry):
        weight = nn.Parameter(torch.randn(10, 5, generator=torch.Generator().manual_seed(0)))
        bias = nn.Parameter(torch.randn(10, generator=torch.Generator().manual_seed(1)))
        x = torch.randn(5, generator=torch.Generator().manual_seed(2))
        optimizer = made(entry, given, [weight, bias])
        schedules = [make(optimizer) for make in ([], *infos.SCHEDULES)[schedule]]

        def closure(optimizer=optimizer, weight=weight, bias=bias, x=x):
            optimizer.zero_grad()
            loss = (weight.mv(x) + bias).pow(2).sum()
            loss.backward()
            return loss

        first = closure().item()
        for _ in range(20):
            loss = optimizer.step(closure)
            for one in schedules:
                one.step(loss) if isinstance(one, torch.optim.lr_scheduler.ReduceLROnPlateau) else one.step()
        last = closure().item()
        assert last > first if given.kwargs.get("maximize") else last < first, given.desc


@each
@pytest.mark.parametrize("backend", ["foreach", "fused", "differentiable"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_agree_with_the_loop(entry, backend, dtype):
    if backend == "fused" and dtype == torch.float64:
        pytest.skip(DOES_NOT_APPLY["fused on float64"])
    for given in entry.optim_inputs_func("cpu"):
        loop, other = model(dtype), model(dtype)
        if backend == "differentiable":
            for p in other.parameters():
                p.requires_grad_(False)
        a = made(entry, given, loop.parameters(), foreach=False)
        b = made(entry, given, other.parameters(), **{backend: True})
        for _ in range(7):
            for p, q in zip(loop.parameters(), other.parameters(), strict=True):
                p.grad = torch.rand_like(p)
                q.grad = p.grad.clone()
            a.step()
            b.step()
        equal(list(loop.parameters()), list(other.parameters()), check_stride=True)
        for p, q in zip(loop.parameters(), other.parameters(), strict=True):
            for key, value in a.state[p].items():
                torch.testing.assert_close(value, b.state[q][key])


@each
@pytest.mark.parametrize("backend", ["foreach", "fused"])
def test_mixed_dtypes_step_as_one_by_one(entry, backend):
    dtypes = [torch.float32, torch.float16, torch.bfloat16, *([torch.float64] if backend == "foreach" else [])]
    for given in entry.optim_inputs_func("cpu"):
        torch.manual_seed(3)
        start = [(torch.rand(2, 3, dtype=d), torch.rand(2, 3, dtype=d)) for d in dtypes]
        found = []
        for value in (False, True):
            params = [w.clone().requires_grad_() for w, _ in start]
            for p, (_, g) in zip(params, start, strict=True):
                p.grad = g.clone()
            optimizer = made(entry, given, params, **{backend: value})
            for _ in range(7):
                optimizer.step()
            found.append(params)
        for p, q in zip(*found, strict=True):
            rtol, atol = torch.testing._comparison.get_tolerances(p.dtype, rtol=None, atol=None)
            torch.testing.assert_close(p, q, rtol=5 * rtol, atol=5 * atol)


@each
@pytest.mark.parametrize("default", [torch.float64, torch.float16])
def test_default_dtypes_do_not_reach_the_state(entry, default):
    for given in inputs(entry, "automatic", "eager", "foreach"):
        net = model(torch.float64)
        optimizer = made(entry, given, net.parameters())
        twin = model(torch.float64)
        expected = train(made(entry, given, twin.parameters()), twin)
        torch.set_default_dtype(default)
        try:
            found = train(optimizer, net)
        finally:
            torch.set_default_dtype(torch.float32)
        equal(found, expected)
        assert all(own["step"].dtype == torch.float32 for own in optimizer.state.values())


@each
@pytest.mark.parametrize("only", ["matrix", "delta 0"])
def test_complex_parameters_step_as_their_pairs(entry, only):
    """A vector of pairs is a matrix, which the paper's test looks at; so vectors are compared where it never fires."""
    for given in inputs(entry, "automatic", "eager", "foreach"):
        kwargs = {**given.kwargs, "delta": 0.0} if only == "delta 0" else given.kwargs
        if only == "delta 0" and "Blocks" in entry.optim_cls.__name__:
            continue
        generator = torch.Generator().manual_seed(0)
        shapes = [(10, 5)] if only == "matrix" else [(10, 5), (10,)]
        z = [torch.randn(s, dtype=torch.complex64, generator=generator).requires_grad_() for s in shapes]
        pairs = [torch.view_as_real(p.detach()).clone().requires_grad_() for p in z]
        a, b = (entry.optim_cls(p, **copy.deepcopy(kwargs)) for p in (z, pairs))
        for _ in range(5):
            for p, q in zip(z, pairs, strict=True):
                q.grad = torch.randn(q.shape, generator=generator)
                p.grad = torch.view_as_complex(q.grad.clone())
            a.step()
            b.step()
            equal([torch.view_as_real(p.detach()) for p in z], [q.detach() for q in pairs])


@each
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_tensor_of_one_element_is_a_learning_rate(entry, shape):
    for given in inputs(entry):
        one, other = model(), model()
        expected = train(made(entry, given, one.parameters(), lr=0.0078125), one)
        equal(train(made(entry, given, other.parameters(), lr=torch.full(shape, 0.0078125)), other), expected)


@each
def test_groups_have_their_own_decay_and_rate(entry):
    for given in inputs(entry):
        net = model()
        weight, bias = net[0].weight, net[0].bias
        bias_before = bias.detach().clone()
        groups = [dict(params=[weight], weight_decay=0.5), dict(params=[bias], weight_decay=0.0, lr=0.0)]
        optimizer = made(entry, given, groups)
        for p in (weight, bias):
            p.grad = torch.ones_like(p)
        optimizer.step()
        assert torch.equal(bias, bias_before) and weight.grad is not None


@each
def test_state_dicts_are_deterministic_and_continue_alike(entry):
    for given in inputs(entry):
        net, twin = model(), model()
        first = made(entry, given, net.parameters())
        train(first, net, 3)
        twin.load_state_dict(net.state_dict())
        second = made(entry, given, twin.parameters())
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        equal(train(first, net, 3), train(second, twin, 3), rtol=0, atol=0)
        assert str(first.state_dict()) == str(second.state_dict())


@each
def test_older_state_without_newer_settings_loads(entry):
    for given in inputs(entry):
        net = model()
        optimizer = made(entry, given, net.parameters())
        train(optimizer, net, 2)
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in entry.not_og_supported_flags:
                del group[flag]
        optimizer.load_state_dict(old)
        train(optimizer, net, 2)


@each
def test_state_goes_between_named_and_unnamed_groups(entry):
    for given in inputs(entry):
        net, twin = model(), model()
        for one, other in ((net.parameters(), twin.named_parameters()), (net.named_parameters(), twin.parameters())):
            first, second = made(entry, given, one), made(entry, given, other)
            train(first, net, 2)
            twin.load_state_dict(net.state_dict())
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            assert all("param_names" in group for group in second.param_groups)
            equal(train(first, net, 1), train(second, twin, 1), rtol=0, atol=0)


@each
@pytest.mark.parametrize("kind", [int, float])
def test_step_counts_may_be_saved_as_numbers(entry, kind):
    for given in inputs(entry):
        net = model()
        optimizer = made(entry, given, net.parameters())
        train(optimizer, net, 2)
        saved = copy.deepcopy(optimizer.state_dict())
        for own in saved["state"].values():
            own["step"] = kind(own["step"])
        optimizer.load_state_dict(saved)
        train(optimizer, net, 1)
        assert all(own["step"] == 3 for own in optimizer.state.values())


@each
def test_nothing_happens_without_gradients_and_state_is_there_after_a_step(entry):
    for given in inputs(entry):
        net = model()
        optimizer = made(entry, given, net.parameters())
        before = [p.detach().clone() for p in net.parameters()]
        optimizer.step()
        assert not any(optimizer.state.values())
        equal(before, [p.detach() for p in net.parameters()], rtol=0, atol=0)
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        made(entry, given, net.parameters(), weight_decay=0.0).step()
        equal(before, [p.detach() for p in net.parameters()])
        train(optimizer, net, 1)
        assert all(own for own in optimizer.state.values()) and len(optimizer.state) == 4


@each
def test_hooks_run_in_order_and_can_be_removed(entry):
    given = entry.optim_inputs_func("cpu")[0]
    net = model()
    optimizer = made(entry, given, net.parameters())
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("global before")),
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
        register_optimizer_step_post_hook(lambda *_: seen.append("global after")),
        optimizer.register_state_dict_pre_hook(lambda *_: seen.append("save")),
        optimizer.register_state_dict_post_hook(lambda _, saved: seen.append("saved")),
        optimizer.register_load_state_dict_pre_hook(lambda *_: seen.append("load")),
        optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("loaded")),
    ]
    train(optimizer, net, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert sorted(seen[:2]) == ["before", "global before"] and sorted(seen[2:4]) == ["after", "global after"]
    assert seen[4:] == ["save", "saved", "load", "loaded"]
    for handle in handles:
        handle.remove()
    train(optimizer, net, 1)
    assert len(seen) == 8


@each
def test_copies_have_all_public_attributes_and_printing_works(entry):
    for given in inputs(entry):
        net = model()
        optimizer = made(entry, given, net.parameters())
        train(optimizer, net, 2)
        other = copy.deepcopy(optimizer)
        public = [k for k in vars(optimizer) if not k.startswith("_")]
        assert all(hasattr(other, k) for k in public) and str(other.state_dict()) == str(optimizer.state_dict())
        assert entry.optim_cls.__name__ in repr(optimizer)


@each
def test_built_on_meta_it_steps_once_materialised(entry):
    for given in entry.optim_inputs_func("cpu"):
        with torch.device("meta"):
            net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        optimizer = made(entry, given, net.parameters())
        net.to_empty(device="cpu")
        for p in net.parameters():
            nn.init.ones_(p)
        moved = list(net.parameters())
        if moved[0] is not optimizer.param_groups[0]["params"][0]:
            pytest.skip("this torch exchanges parameters in to_empty")
        train(optimizer, net, 1)


@each
@pytest.mark.parametrize("scale", [1.0, 128.0])
def test_gradient_scalers_are_obeyed_by_every_backend(entry, scale):
    for given in inputs(entry):
        net, twin = model(), model()
        optimizer, plain = made(entry, given, net.parameters()), made(entry, given, twin.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        x = torch.rand(4, 2)
        for _ in range(3):
            for one, o in ((net, optimizer), (twin, plain)):
                o.zero_grad()
                loss = one(x).sum()
                (scaler.scale(loss) if one is net else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            plain.step()
        equal(list(net.parameters()), list(twin.parameters()))
        before = [p.detach().clone() for p in net.parameters()]
        for p in net.parameters():
            p.grad = torch.full_like(p, float("inf"))
        scaler.step(optimizer)
        equal(before, [p.detach() for p in net.parameters()], rtol=0, atol=0)


@each
@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        (dict(lr=-1.0), ValueError),
        (dict(lr=torch.tensor([0.001, 0.001])), ValueError),
        (dict(weight_decay=-1), ValueError),
        (dict(foreach=True, fused=True), ValueError),
        (dict(fused=True, differentiable=True), ValueError),
    ],
)
def test_errors_are_raised_at_construction(entry, kwargs, error):
    with pytest.raises(error):
        entry.optim_cls([nn.Parameter(torch.ones(2, 2))], **kwargs)


@each
def test_parameters_of_wrong_kinds_are_refused_as_torch_does(entry):
    p, q = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    wrong = [
        (p, TypeError, "iterable of Tensors or dicts"),
        ([("weight", p), q], ValueError, "Some param names are missing|with/without names"),
        ([dict(params=[p]), dict(params=[("weight", q)])], ValueError, "with/without names"),
        ([dict(params=p), dict(params=p)], ValueError, "more than one parameter group"),
    ]
    for params, error, message in wrong:
        with pytest.raises(error, match=message):
            entry.optim_cls(params)


def test_the_split_entries_step_blocks():
    net = model()
    optimizer = INFOS["AdamP, Blocks"].optim_cls(net.parameters())
    assert [group["blocks"] for group in optimizer.param_groups] == [Blocks(), None]

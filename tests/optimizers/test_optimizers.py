"""What every torch optimizer does, SGDP and AdamP do."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from support.weights import SHAPES, gap, give_gradients, run, weights
from tangential import SGDP, AdamP, Blocks

MAKERS = {
    "adamp": lambda params, **kw: AdamP(params, **{"lr": 1e-2, "weight_decay": 0.1, **kw}),
    "sgdp": lambda params, **kw: SGDP(params, **{"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1, **kw}),
}
MOMENTS = {"adamp": {"exp_avg", "exp_avg_sq"}, "sgdp": {"momentum_buffer"}}
every = pytest.mark.parametrize("name", MAKERS)
foreach_too = pytest.mark.parametrize("foreach", [False, True, None])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


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


@every
@foreach_too
def test_groups_keep_their_own_settings(name, foreach):
    together, apart = weights(), weights()
    half = len(together) // 2
    one = MAKERS[name](
        [dict(params=together[:half], lr=1e-3), dict(params=together[half:], blocks=None)], foreach=foreach
    )
    two = [MAKERS[name](apart[:half], lr=1e-3), MAKERS[name](apart[half:], blocks=None)]
    for step in range(3):
        give_gradients(together, step)
        give_gradients(apart, step)
        one.step()
        for optimizer in two:
            optimizer.step()
    assert gap([p.detach() for p in together], [p.detach() for p in apart]) < 1e-14


@every
def test_iterables_names_and_later_groups_are_taken(name):
    model = nn.Linear(3, 2)
    optimizer = MAKERS[name](iter(model.named_parameters()))
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    late = nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group(dict(params=[("late", late)], lr=0.5))
    assert optimizer.param_groups[1]["lr"] == 0.5
    assert optimizer.param_groups[1]["blocks"] == "cosine"


@every
@foreach_too
def test_parameters_without_gradient_keep_their_own_step_count(name, foreach):
    params = weights(shapes=[(4, 3), (4, 3)])
    optimizer = MAKERS[name](params, foreach=foreach)
    alone = weights(shapes=[(4, 3), (4, 3)])[1:]
    single = MAKERS[name](alone, foreach=foreach)
    for step in range(4):
        give_gradients(params, step)
        if step % 2:
            params[1].grad = None
        else:
            alone[0].grad = params[1].grad.clone()
            single.step()
        optimizer.step()
    assert torch.equal(params[1], alone[0])
    assert optimizer.state[params[1]]["step"] == 2


@every
@foreach_too
def test_gradients_are_never_written(name, foreach):
    params = weights()
    for maximize in (False, True):
        optimizer = MAKERS[name](params, foreach=foreach, maximize=maximize)
        give_gradients(params, 0)
        before = [p.grad.clone() for p in params]
        optimizer.step()
        assert same([p.grad for p in params], before)


@every
@foreach_too
def test_maximize_is_descent_on_the_negative(name, foreach):
    up, down = weights(), weights()
    a, b = MAKERS[name](up, foreach=foreach, maximize=True), MAKERS[name](down, foreach=foreach)
    for step in range(3):
        give_gradients(up, step)
        for p, q in zip(up, down, strict=True):
            q.grad = -p.grad
        a.step()
        b.step()
    assert same(up, down)


@every
def test_closure_runs_with_gradients_and_its_loss_is_returned(name):
    w = nn.Parameter(torch.ones(3, 2))
    optimizer = MAKERS[name]([w])

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) == 6
    assert not torch.equal(w, torch.ones(3, 2))


@every
def test_hooks_run_around_the_step(name):
    params = weights()
    optimizer = MAKERS[name](params)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    run(optimizer, params, 1)
    assert seen == ["before", "after"]


@every
@foreach_too
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_learning_rate_as_tensor_equals_the_number(name, foreach, dtype):
    a, b = weights(dtype), weights(dtype)
    by_number = run(MAKERS[name](a, lr=0.015625, foreach=foreach), a)
    by_tensor = run(MAKERS[name](b, lr=torch.tensor(0.015625), foreach=foreach), b)  # exact in float32
    assert gap(by_tensor, by_number) < 30 * torch.finfo(dtype).eps


SCHEDULES = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "warm-up": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.LinearLR(o, 0.1), torch.optim.lr_scheduler.ExponentialLR(o, 0.99)], [5]
    ),
    "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1e-3, total_steps=60),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=2),
}


@every
@foreach_too
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.filterwarnings("ignore:.*epoch parameter in `scheduler.step:UserWarning")
def test_rosenbrock_is_descended_under_schedules(name, foreach, schedule, as_tensor):
    w = nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    optimizer = MAKERS[name]([w], foreach=foreach, lr=torch.tensor(5e-4) if as_tensor else 5e-4, weight_decay=0.0)
    scheduler = SCHEDULES[schedule](optimizer)

    def rosenbrock():
        return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2

    first = rosenbrock().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss = rosenbrock()
        loss.backward()
        optimizer.step()
        scheduler.step(loss.item()) if schedule == "plateau" else scheduler.step()
    assert rosenbrock().item() < first


@every
@foreach_too
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels-last"])
def test_models_learn(name, foreach, layout):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    if layout == "channels-last":
        model = model.to(memory_format=torch.channels_last)
    if layout == "transposed":
        model[4].weight = nn.Parameter(model[4].weight.detach().t().contiguous().t())
    optimizer = MAKERS[name](model.parameters(), foreach=foreach)
    x, y = torch.randn(16, 3, 6, 6), torch.randint(0, 2, (16,))
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@every
@foreach_too
def test_complex_weight_is_its_real_pair_with_its_own_rows(name, foreach):
    z = weights(torch.complex128, shapes=[(6, 7), (5,)])
    pairs = [torch.view_as_real(w.detach()).clone().requires_grad_() for w in z]
    a = MAKERS[name](z, foreach=foreach)
    b = MAKERS[name]([dict(params=pairs[:1]), dict(params=pairs[1:], blocks=None)], foreach=foreach)
    for step in range(4):
        give_gradients(z, step)
        for p, q in zip(z, pairs, strict=True):
            p.grad = p.grad + 0.5j * p.grad.roll(1)
            q.grad = torch.view_as_real(p.grad).clone()
        a.step()
        b.step()
    assert gap([torch.view_as_real(p.detach()) for p in z], [q.detach() for q in pairs]) < 1e-14


@every
@foreach_too
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (2, 0, 3)])
def test_empty_weights_are_stepped_over(name, foreach, shape):
    params = [torch.zeros(shape, requires_grad=True), torch.ones(3, 2, requires_grad=True)]
    for p in params:
        p.grad = torch.ones_like(p)
    MAKERS[name](params, foreach=foreach).step()
    assert not torch.equal(params[1], torch.ones(3, 2))


@every
def test_vectors_and_scalars_are_never_projected_by_the_paper_test(name):
    tested, plain = (weights(shapes=[(5,), ()]) for _ in range(2))
    for params in (tested, plain):
        for p in params:
            p.grad = torch.zeros_like(p)  # passes any test there is
    MAKERS[name](tested).step()
    MAKERS[name](plain, blocks=None).step()
    assert same(tested, plain)


@every
@pytest.mark.parametrize("foreach", [False, True])
def test_sparse_gradient_is_refused_before_anything_moves(name, foreach):
    table = nn.Embedding(5, 3, sparse=True)
    head = nn.Linear(3, 2)
    head(table(torch.tensor([1, 2]))).sum().backward()
    optimizer = MAKERS[name]([dict(params=head.parameters()), dict(params=table.parameters())], foreach=foreach)
    before = [p.detach().clone() for p in head.parameters()]
    with pytest.raises(ValueError, match=r"sparse_coo gradient .*\(5, 3\).*sparse=False"):
        optimizer.step()
    assert same([p.detach() for p in head.parameters()], before)
    assert not optimizer.state[head.weight] or optimizer.state[head.weight]["step"] == 0


@every
def test_step_is_differentiable(name):
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def final_loss(lr, w, g):
        w = w.clone()
        optimizer = MAKERS[name]([w], lr=lr, differentiable=True, eps=1e-4)
        for _ in range(2):
            w.grad = g * w.roll(1)
            optimizer.step()
        return w.square().sum()

    start = weights(shapes=[(3, 4)])[0].detach().requires_grad_()
    g = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: final_loss(*a), (lr, start, g))


@every
@pytest.mark.parametrize("foreach", [False, True])
def test_grad_scaler_skips_overflown_steps(name, foreach):
    w = nn.Parameter(torch.ones(3, 2))
    optimizer = MAKERS[name]([w], foreach=foreach)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((w * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(w.detach(), torch.ones(3, 2)) and scaler.get_scale() == 2.0
    optimizer.zero_grad()
    scaler.scale((w * torch.arange(6.0).view(3, 2)).sum()).backward()
    scaler.step(optimizer)
    assert not torch.equal(w.detach(), torch.ones(3, 2))


def test_adamp_is_adamw_where_nothing_is_invariant():
    model, twin = (nn.Linear(4, 3).double() for _ in range(2))
    twin.load_state_dict(model.state_dict())
    x = torch.randn(8, 4, dtype=torch.float64)
    ours = AdamP(model.parameters(), lr=1e-2, weight_decay=0.1, delta=0.0)
    theirs = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1)
    for net, optimizer in ((model, ours), (twin, theirs)):
        for _ in range(10):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    assert gap([p.detach() for p in model.parameters()], [p.detach() for p in twin.parameters()]) < 1e-13


def test_sgdp_first_step_is_dampened():
    w = nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    SGDP([w], lr=1.0, momentum=0.9, dampening=0.25).step()
    torch.testing.assert_close(w.detach(), torch.full((2,), 0.25))


def test_sgdp_buffer_is_never_projected():
    w = weights(shapes=[(4, 6)])
    plain = [w[0].detach().clone().requires_grad_()]
    ours, sgd = SGDP(w, lr=0.1, momentum=0.9), torch.optim.SGD(plain, lr=0.1, momentum=0.9)
    for step in range(3):
        give_gradients(w, step)
        plain[0].grad = w[0].grad.clone()
        ours.step()
        sgd.step()
    torch.testing.assert_close(ours.state[w[0]]["momentum_buffer"], sgd.state[plain[0]]["momentum_buffer"])
    assert not torch.allclose(w[0], plain[0])


BAD = [
    (dict(lr=-1.0), ValueError, "lr=-1.0: must be finite and at least 0"),
    (dict(lr=float("nan")), ValueError, "lr=nan"),
    (dict(lr="0.1"), TypeError, "lr='0.1': must be a number"),
    (dict(lr=torch.ones(2)), ValueError, r"shape \(2,\)"),
    (dict(eps=-1e-8), ValueError, "eps=-1e-08"),
    (dict(weight_decay=-1), ValueError, "weight_decay=-1"),
    (dict(delta=-0.1), ValueError, "delta=-0.1"),
    (dict(wd_ratio=5), ValueError, r"wd_ratio=5: must be in \[0, 1\]"),
    (dict(nesterov=1), TypeError, "nesterov=1: must be True or False"),
    (dict(blocks="channels"), ValueError, "blocks='channels'"),
    (dict(blocks=3), TypeError, "blocks=3"),
    (dict(fused="yes"), TypeError, "fused='yes'"),
    (dict(foreach=True, fused=True), ValueError, "ask for one"),
    (dict(fused=True, differentiable=True), ValueError, "one tensor at a time"),
    (dict(foreach="yes"), TypeError, "foreach='yes'"),
    (dict(foreach=True, differentiable=True), ValueError, "one tensor at a time"),
    (dict(blocks=Blocks(dim=5)), ValueError, "cuts dimension 5"),
]


@every
@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_settings_are_refused_in_the_constructor_and_in_groups(name, settings, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](weights(), **settings)
    optimizer = MAKERS[name](weights())
    if "differentiable" not in settings:
        with pytest.raises(error, match=message):
            optimizer.add_param_group(dict(params=[torch.ones(3, 2, requires_grad=True)], **settings))
        assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (AdamP, dict(betas=(0.9, 1.0)), r"betas=1.0: must be two numbers in \[0, 1\)"),
        (SGDP, dict(momentum=1.0), r"momentum=1.0: must be in \[0, 1\)"),
        (SGDP, dict(dampening=float("inf")), "dampening=inf"),
    ],
)
def test_settings_of_one_rule_are_checked(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(weights(), **settings)


@every
def test_unknown_arguments_are_refused(name):
    with pytest.raises(TypeError, match="wd_ration"):
        MAKERS[name](weights(), wd_ration=0.1)


@every
def test_sharded_weights_are_refused(name):
    flat = torch.ones(4, requires_grad=True)
    flat._fsdp_flattened = True
    with pytest.raises(ValueError, match="sharded"):
        MAKERS[name]([flat])


def test_constructors_take_the_official_positions():
    adamp = pytest.importorskip("adamp")
    for ours, theirs in ((AdamP, adamp.AdamP), (SGDP, adamp.SGDP)):
        names = list(theirs([torch.ones(1)], 0.1).defaults)
        given = [0.5, 0.25, 0.125] if ours is SGDP else [0.5, (0.25, 0.5), 0.125]
        assert ours([torch.ones(1)], *given).defaults.items() >= dict(zip(names, given, strict=False)).items()
        defaults = {k: v for k, v in theirs([torch.ones(1)], 0.1).defaults.items() if k != "lr"}
        assert ours([torch.ones(1)]).defaults.items() >= defaults.items()


def test_shapes_of_the_tests_cover_every_rank():
    assert {len(s) for s in SHAPES} >= {0, 1, 2, 3, 4}

"""What every torch optimizer does, SGDP and AdamP do."""

import inspect
import pickle
import re

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, every, foreach_too, same
from support.weights import SHAPES, gap, give_gradients, run, weights
from tangential import SGDP, AdamP


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
def test_settings_as_tensors_equal_the_numbers(name, foreach, dtype):
    a, b = weights(dtype), weights(dtype)
    numbers = dict(lr=0.015625, weight_decay=0.25)  # exact in float32
    by_number = run(MAKERS[name](a, **numbers, foreach=foreach), a)
    by_tensor = run(MAKERS[name](b, **{k: torch.tensor(x) for k, x in numbers.items()}, foreach=foreach), b)
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


def test_shared_arguments_are_documented_in_the_same_words():
    """Both docstrings are written out, because editors and the site's builder read them without running code."""
    own = {"lr", "momentum", "dampening", "betas", "eps", "weight_decay"}
    ours, theirs = (arguments(cls) for cls in (AdamP, SGDP))
    assert ours.keys() - own == theirs.keys() - own
    assert all(ours[name] == theirs[name] for name in ours.keys() - own)


def arguments(cls):
    """The description of every argument in a class's docstring."""
    described = inspect.getdoc(cls).split("Args:\n")[1].split("\n\n")[0]
    found = re.split(r"^    (\w+): ", described, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_documented_arguments_are_those_of_the_constructor():
    for cls in (AdamP, SGDP):
        assert list(arguments(cls)) == list(inspect.signature(cls).parameters)
        assert list(arguments(cls))[1:] == list(cls([torch.ones(1)]).defaults)


def test_classes_are_recorded_under_the_package_that_exports_them():
    for cls in (AdamP, SGDP):
        assert f"{cls.__module__}.{cls.__qualname__}" == f"tangential.optimizers.{cls.__name__}"
        assert pickle.loads(pickle.dumps(cls)) is cls

"""What `watch` reports is what the weights did between the call of `step` and its return, whoever changed them."""

import copy
import math

import pytest
import torch
from torch import nn

from tangential import SGDP, AdamP, Blocks, watch

OPTIMIZERS = {
    "AdamP": lambda p: AdamP(p, 1e-2, weight_decay=0.1),
    "AdamP channels": lambda p: AdamP(p, 1e-2, blocks=Blocks()),
    "AdamP sticky": lambda p: AdamP(p, 1e-2, blocks="sticky", foreach=True),
    "SGDP": lambda p: SGDP(p, 0.1, 0.9, weight_decay=1e-3),
    "SGDP nesterov eager": lambda p: SGDP(p, 0.1, 0.9, nesterov=True, foreach=False),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
}
COMPARED = ("relative_update", "effective_step", "angle", "tangential_update", "radial_update", "gradient_cosine")


class Net(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.first, self.last = nn.Linear(16, 6, bias=False), nn.Linear(6, 2, bias=False)
        self.to(dtype)

    def forward(self, x):
        return self.last(self.first(self.norm(self.conv(x)).relu().flatten(1)))

    def weights(self):
        return [self.conv.weight, self.first.weight, self.last.weight]

    def loss(self, seed):
        torch.manual_seed(seed)
        self.zero_grad()
        x = torch.randn(5, 3, 4, 4).to(self.last.weight.dtype)
        return (self(x) - 1).square().mean()


def groups(net):
    """The matrices, so that settings that need two dimensions hold for all."""
    return net.weights()


def expected(before, after, gradient):
    """The metrics by channel, from float64 copies of a weight before and after."""
    w, new, g = (x.detach().double().flatten(1) for x in (before, after, gradient))
    d, length = new - w, w.norm(dim=1)
    radial = (d * w).sum(1) / length**2
    tangential = (d - radial[:, None] * w).norm(dim=1) / length
    step = (new / new.norm(dim=1, keepdim=True) - w / length[:, None]).norm(dim=1)
    cosine = (w * g).sum(1) / length / g.norm(dim=1)
    angle = 2 * (step / 2).asin()
    found = dict(zip(COMPARED, (d.norm(dim=1) / length, step, angle, tangential, radial, cosine), strict=True))
    return {name: x.mean() if name == "radial_update" else x.square().mean().sqrt() for name, x in found.items()}


def check(telemetry, net, step, *, tolerance=1e-6, skip=()):
    """Take a step and compare its record with copies of the weights around it."""
    weights = net.weights()
    before = [w.detach().clone() for w in weights]
    step()
    entries = list(telemetry.latest["weights"].values())
    assert len(entries) == len(weights)
    for entry, old, w in zip(entries, before, weights, strict=True):
        assert entry["norm"] == pytest.approx(float(old.double().norm()), rel=1e-12)
        for name, value in expected(old, w, w.grad).items():
            if name not in skip:
                assert entry[name] == pytest.approx(float(value), rel=tolerance, abs=1e-9), name


def train(net, optimizer, telemetry, *, steps=3, **settings):
    for i in range(steps):

        def step(i=i):
            net.loss(i).backward()
            optimizer.step()

        check(telemetry, net, step, **settings)
    assert [record["step"] for record in telemetry.records] == list(range(1, steps + 1))


def clip_norm(optimizer, *_):
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1e-3)


def clip_value(optimizer, *_):
    nn.utils.clip_grad_value_([p for group in optimizer.param_groups for p in group["params"]], 1e-4)


def through_data(optimizer, *_):
    for p in optimizer.param_groups[0]["params"]:
        p.grad.data.mul_(1e-3)  # no version counter shows it


def replaced(optimizer, *_):
    for p in optimizer.param_groups[0]["params"]:
        p.grad = 1e-3 * p.grad


def perturbed(optimizer, *_):
    with torch.no_grad():
        for p in optimizer.param_groups[0]["params"]:
            p.add_(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["before watch", "after watch"])
@pytest.mark.parametrize("hook", [clip_norm, clip_value, through_data, replaced, perturbed], ids=lambda h: h.__name__)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hooks_that_change_gradients_or_weights_count_in_any_order(name, hook, order):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    if order == "before watch":
        optimizer.register_step_pre_hook(hook)
    telemetry = watch(optimizer, every=1)
    if order == "after watch":
        optimizer.register_step_pre_hook(hook)
    train(net, optimizer, telemetry)


def normalised(optimizer, *_):
    with torch.no_grad():
        for p in optimizer.param_groups[0]["params"]:
            p.div_(p.flatten(1).norm(dim=1).view(-1, *[1] * (p.ndim - 1)))


@pytest.mark.parametrize("order", ["before watch", "after watch"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_changed_by_post_hooks_count_in_any_order(name, order):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    if order == "before watch":
        optimizer.register_step_post_hook(normalised)
    telemetry = watch(optimizer, every=1)
    if order == "after watch":
        optimizer.register_step_post_hook(normalised)
    train(net, optimizer, telemetry, skip=("angle",))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_scaler_is_seen_through(name):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    telemetry = watch(optimizer, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2)
    for i in range(4):

        def step(i=i):
            scaler.scale(net.loss(i)).backward()
            scaler.step(optimizer)
            scaler.update()

        check(telemetry, net, step)
    assert telemetry.step == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scale_that_is_left_to_the_step_is_undone_in_what_is_reported(name):
    """As `GradScaler` calls fused optimizers: gradients scaled, `grad_scale` and `found_inf` set on the optimizer."""
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    if "fused" not in name and isinstance(optimizer, (torch.optim.AdamW, torch.optim.SGD)):
        pytest.skip("torch divides by the scale in its fused optimizers alone")
    telemetry = watch(optimizer, every=1)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4096.0), torch.tensor(0.0)
    for i in range(3):

        def step(i=i):
            (4096.0 * net.loss(i)).backward()
            optimizer.step()

        check(telemetry, net, step)
    optimizer.found_inf.fill_(1.0)
    net.loss(4).backward()
    optimizer.step()
    assert [record["step"] for record in telemetry.records] == [1, 2, 3], "a skipped step is no record"


def subclass(parent, *, gradients=False, weights=False, twice=False):
    class Mine(parent):
        def step(self, closure=None):
            params = [p for group in self.param_groups for p in group["params"]]
            if gradients:
                nn.utils.clip_grad_norm_(params, 1e-3)
            loss = super().step(closure)
            if twice:
                super().step(closure)
            with torch.no_grad():
                for p in params if weights else ():
                    p.clamp_(-0.2, 0.2)
            return loss

    return Mine


@pytest.mark.parametrize("change", ["gradients", "weights", "twice"])
@pytest.mark.parametrize("parent", [AdamP, SGDP, torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_subclass_steps_once_and_all_it_does_counts(parent, change, hooked):
    net = Net()
    if hooked:  # torch wraps the step of a class when the first of it is made
        parent([nn.Parameter(torch.ones(2, 2))], lr=0.1)
    optimizer = subclass(parent, **{change: True})(groups(net), lr=0.01)
    train(net, optimizer, watch(optimizer, every=1))


def test_a_subclass_of_a_subclass_steps_once():
    net = Net()
    Outer = subclass(subclass(SGDP, gradients=True), weights=True)
    optimizer = Outer(groups(net), lr=0.1, momentum=0.9)
    train(net, optimizer, watch(optimizer, every=1))


@pytest.mark.parametrize("make", [lambda p: subclass(AdamP)(p, 0.01), OPTIMIZERS["AdamP"], OPTIMIZERS["AdamW"]])
def test_a_step_that_raises_is_no_step_and_the_next_is_one(make):
    net = Net()
    optimizer = make(groups(net))
    telemetry = watch(optimizer, every=1)

    def broken():
        raise RuntimeError("in the closure")

    for i in range(3):
        with pytest.raises(RuntimeError, match="in the closure"):
            optimizer.step(broken)
        assert telemetry.step == i
        net.loss(i).backward()
        check(telemetry, net, optimizer.step)
    assert [record["step"] for record in telemetry.records] == [1, 2, 3]


@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_closures_with_clipping_in_them_or_around_them(name, clips):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    telemetry = watch(optimizer, every=1)
    if clips:  # as Lightning does: a later pre-hook would come too early, so the closure itself is wrapped
        optimizer.register_step_pre_hook(lambda o, args, kwargs: ((args[0], clipped(o, args[1])), kwargs))

    def clipped(optimizer, closure):
        def run():
            loss = closure()
            clip_norm(optimizer)
            return loss

        return run

    for i in range(3):

        def closure(i=i):
            loss = net.loss(i)
            loss.backward()
            return loss

        check(telemetry, net, lambda closure=closure: optimizer.step(closure))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_optimizers_are_measured_each_on_its_own(name):
    one, two = Net(), Net()
    a, b = OPTIMIZERS[name](groups(one)), OPTIMIZERS["SGD"](groups(two))
    first, second = watch(a, every=1), watch(b, every=1)
    for i in range(3):
        one.loss(i).backward()
        two.loss(i + 7).backward()
        check(first, one, a.step)
        check(second, two, b.step)


def test_a_weight_in_two_optimizers_is_measured_in_each():
    net = Net()
    a, b = OPTIMIZERS["AdamP"](groups(net)), OPTIMIZERS["SGD"](groups(net))
    first, second = watch(a, every=1), watch(b, every=1)
    for i in range(3):
        net.loss(i).backward()
        check(first, net, a.step)
        check(second, net, b.step)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_loaded_under_way_changes_no_name(name):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    telemetry = watch(optimizer, every=1)
    for i in range(4):
        net.loss(i).backward()
        check(telemetry, net, optimizer.step)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert {name for record in telemetry.records for name in record["weights"]} == {"0.0", "0.1", "0.2"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_made_anew_under_way_keep_name_and_kind(name):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    names = [(n, p) for n, p in net.named_parameters() if p.ndim > 1]
    known = {"conv.weight": Blocks(), "first.weight": Blocks(), "last.weight": None}
    telemetry = watch(optimizer, every=1, names=names, invariances=known)
    for i in range(3):
        net.loss(i).backward()
        check(telemetry, net, optimizer.step)
        for module, index in ((net.conv, 0), (net.first, 1), (net.last, 2)):
            old = module.weight
            module.weight = nn.Parameter(old.detach().clone())
            optimizer.param_groups[0]["params"][index] = module.weight
            optimizer.state[module.weight] = optimizer.state.pop(old)
    for record in telemetry.records:
        assert [(n, own["kind"]) for n, own in record["weights"].items()] == [
            ("conv.weight", "channel"),
            ("first.weight", "channel"),
            ("last.weight", None),
        ]


@pytest.mark.parametrize("hook", [None, clip_norm, clip_value], ids=["none", "norm", "value"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_beyond_the_limit_every_block_that_is_reported_did_that(name, hook):
    net = Net()
    optimizer = OPTIMIZERS[name](groups(net))
    telemetry = watch(optimizer, every=1, limit=60, detail="blocks")
    if hook is not None:
        optimizer.register_step_pre_hook(hook)
    for i in range(3):
        net.loss(i).backward()
        old = [w.detach().double().clone().flatten(1) for w in net.weights()]
        optimizer.step()
        for before, w, entry in zip(old, net.weights(), telemetry.latest["weights"].values(), strict=True):
            moved = (w.detach().double().flatten(1) - before).norm(dim=1) / before.norm(dim=1)
            count = entry["blocks"]
            every = [k * len(moved) // max(1, count) for k in range(count)]
            assert entry["per_block"]["relative_update"] == pytest.approx(moved[every].tolist(), rel=1e-4)
    predicted = hook is None and isinstance(optimizer, (AdamP, SGDP))
    assert [own["blocks"] for own in telemetry.latest["weights"].values()] == [4, 6, 2] or not predicted


def decayed(optimizer, *_):
    with torch.no_grad():
        optimizer.param_groups[0]["params"][0].mul_(0.5)


def test_a_prediction_that_does_not_come_true_is_not_reported():
    w = nn.Parameter(torch.randn(100, 10))
    optimizer = AdamP([w], 1e-2)
    optimizer.register_step_post_hook(decayed)
    telemetry = watch(optimizer, every=1, limit=500)
    w.grad = torch.randn_like(w)
    old = w.detach().clone()
    optimizer.step()
    own = telemetry.latest["weights"]["0.0"]
    change = ((w.detach() - old).norm(dim=1) / old.norm(dim=1))[::2]
    assert own["blocks"] == 50 and own["relative_update"] == pytest.approx(float(change.square().mean().sqrt()))


def test_a_block_beyond_the_limit_has_no_metrics_where_the_prediction_failed():
    w = nn.Parameter(torch.randn(100, 10))
    optimizer = AdamP([w], 1e-2, blocks=Blocks(size=None))
    optimizer.register_step_post_hook(decayed)
    telemetry = watch(optimizer, every=1, limit=500)
    w.grad = torch.randn_like(w)
    norm = float(w.detach().norm())
    optimizer.step()
    own = telemetry.latest["weights"]["0.0"]
    assert own["angle"] is None and own["norm"] == pytest.approx(norm)


def test_in_half_precision_a_prediction_is_not_even_tried():
    net = Net(torch.bfloat16)
    optimizer = AdamP(groups(net), 1e-2)
    train(net, optimizer, watch(optimizer, every=1))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_measuring_does_not_change_what_hooks_and_subclasses_do(name):
    plain, watched = Net(), Net()
    a, b = OPTIMIZERS[name](groups(plain)), OPTIMIZERS[name](groups(watched))
    telemetry = watch(b, every=1)
    for optimizer in (a, b):
        optimizer.register_step_pre_hook(clip_norm)
        optimizer.register_step_post_hook(normalised)
    for i in range(22):
        for net, optimizer in ((plain, a), (watched, b)):
            net.loss(i).backward()
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), watched.parameters(), strict=True))
    assert telemetry.step == 22 and math.isfinite(telemetry.latest["summary"]["angle"]["median"])

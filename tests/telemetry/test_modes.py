"""Telemetry under what changes how tensors are made or read: default devices, modes, lazy bits, lazy modules, ZeRO."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP, Blocks, watch

OPTIMIZERS = {
    "AdamP": lambda p: AdamP(p, 1e-2),
    "AdamP channels": lambda p: AdamP(p, 1e-2, blocks=Blocks()),
    "SGDP": lambda p: SGDP(p, 1e-2, 0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2),
    "SGD": lambda p: torch.optim.SGD(p, 1e-2, 0.9),
}


def watched(make, w, g, *, around=None, **settings):
    """The entry of one weight after one step."""
    optimizer = make([w])
    w.grad = g
    telemetry = watch(optimizer, every=1, **settings)
    if around is None:
        optimizer.step()
    else:
        with around:
            optimizer.step()
    return telemetry.latest["weights"]["0.0"]


def pair(dtype=torch.float32, shape=(6, 5)):
    torch.manual_seed(0)
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("limit", [1 << 20, 10])
@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_records_are_the_same_under_a_default_device(name, device, limit):
    w, g = pair()
    plain = watched(OPTIMIZERS[name], nn.Parameter(w.clone()), g, limit=limit)
    parameter = nn.Parameter(w.clone())
    optimizer = OPTIMIZERS[name]([parameter])
    parameter.grad = g
    telemetry = watch(optimizer, every=1, limit=limit)
    telemetry.close()  # its hooks are called here, so that the step itself is none of this test's
    with torch.device(device):
        telemetry._before(optimizer, (optimizer,), {})
    optimizer.step()
    with torch.device(device):
        telemetry._after(optimizer, (optimizer,), {})
    assert telemetry.latest["weights"]["0.0"] == plain


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, 0.9), lambda p: torch.optim.AdamW(p, 0.1)])
def test_a_step_under_the_meta_device_is_measured(make):
    w, g = pair()
    plain = watched(make, nn.Parameter(w.clone()), g)
    assert watched(make, nn.Parameter(w.clone()), g, around=torch.device("meta")) == plain


@pytest.mark.parametrize("limit", [1 << 20, 10])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_reported_for_lazy_gradients_is_what_the_weight_did(name, limit):
    w, g = pair()
    parameter = nn.Parameter(w.clone())
    own = watched(OPTIMIZERS[name], parameter, torch._neg_view(-g), limit=limit, detail="blocks")
    moved = ((parameter.detach() - w).norm(dim=1) / w.norm(dim=1)).tolist()
    rows = [i * 6 // own["blocks"] for i in range(own["blocks"])]
    assert own["per_block"]["relative_update"] == pytest.approx([moved[i] for i in rows], rel=1e-4)
    cosines = torch.cosine_similarity(w, g).tolist()
    assert own["per_block"]["gradient_cosine"] == pytest.approx([cosines[i] for i in rows], rel=1e-4)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_lazy_weights_are_seen(name):
    w, g = pair()
    plain = watched(OPTIMIZERS[name], nn.Parameter(w.clone()), g)
    lazy = watched(OPTIMIZERS[name], torch._neg_view(-w).requires_grad_(), g)
    assert lazy["angle"] == pytest.approx(plain["angle"]) and lazy["norm"] == pytest.approx(plain["norm"])


class Passing(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_dispatch_mode_changes_nothing(name):
    w, g = pair(torch.float64)
    plain = watched(OPTIMIZERS[name], nn.Parameter(w.clone()), g)
    found = watched(OPTIMIZERS[name], nn.Parameter(w.clone()), g, around=Passing())
    assert found["angle"] == pytest.approx(plain["angle"], rel=1e-9)


@pytest.mark.parametrize("shape", [(13, 5), (12, 7)])
def test_a_step_under_inference_mode_spoils_no_later_one(shape):
    w, g = pair(shape=shape)
    for around in (torch.inference_mode(), None, torch.no_grad()):
        parameter = nn.Parameter(w.clone())
        own = watched(OPTIMIZERS["SGD"], parameter, g, around=around, limit=30)
        assert own["angle"] > 0


def test_fake_tensors_have_no_records_and_leave_nothing_behind():
    with FakeTensorMode():
        w = nn.Parameter(torch.randn(11, 5))
        optimizer = torch.optim.AdamW([w])
        w.grad = torch.randn(11, 5)
        telemetry = watch(optimizer, every=1)
        optimizer.step()
    assert telemetry.step == 1 and telemetry.latest is None
    w, g = pair(shape=(11, 5))
    assert watched(OPTIMIZERS["AdamW"], nn.Parameter(w), g)["angle"] > 0


def test_weights_on_the_meta_device_have_no_records():
    w = nn.Parameter(torch.ones(3, 2, device="meta"))
    optimizer = torch.optim.SGD([w], lr=0.1)
    with watch(optimizer, every=1) as telemetry:
        w.grad = torch.ones(3, 2, device="meta")
        optimizer.step()
    assert telemetry.step == 1 and telemetry.latest is None


def test_a_step_that_is_traced_is_traced_without_its_telemetry():
    def graph(measured):
        w = nn.Parameter(torch.ones(3, 2))
        optimizer = torch.optim.SGD([w], lr=0.1)
        if measured:
            watch(optimizer, every=1)

        def step(g):
            w.grad = g
            optimizer.step()
            return w.detach() + 0

        return [node.target for node in make_fx(step)(torch.ones(3, 2)).graph.nodes]

    assert graph(True) == graph(False)


def test_lazy_modules_are_watched_once_they_have_a_shape():
    net = nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 2))
    for make in (OPTIMIZERS["SGD"], OPTIMIZERS["AdamW"]):
        optimizer = make(net.parameters())
        with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
            net(torch.randn(3, 4)).sum().backward()
            optimizer.step()
        assert list(telemetry.latest["weights"]) == ["0.weight", "1.weight"]
        net = nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 2))


@pytest.mark.parametrize("kind", [AdamP, SGDP, torch.optim.AdamW])
def test_zero_redundancy_is_watched(kind, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
        optimizer = ZeroRedundancyOptimizer(net.parameters(), kind, lr=1e-2)
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
            for p in net.parameters():
                optimizer.state[p] = None  # what it holds for weights of other processes after loading
            optimizer.step()
        assert all(own["angle"] is not None for own in telemetry.latest["weights"].values())
    finally:
        torch.distributed.destroy_process_group()

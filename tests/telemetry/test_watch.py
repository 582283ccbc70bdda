"""What `watch` says of a step is what the weights before and after it say, whatever the optimizer."""

import math

import pytest
import timm.optim
import torch
from torch import nn
from torch.distributed.tensor import DeviceMesh, DTensor, Replicate
from torch.optim import SGD, Adam, AdamW
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP, Blocks, find_invariances, watch
from tangential.blocks import CPU_CHUNK
from tangential.telemetry.equilibrium import adamw_rotation, projected_rotation, sgd_rotation
from tangential.telemetry.measuring import Measurement
from tangential.telemetry.metrics import METRICS

SIGNED = ("radial_update", "radial_momentum")
MOMENTA = ("exp_avg", "momentum_buffer")
HEADS = Blocks(segments=((0, 4, 2),))


def model(dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 6), nn.LayerNorm(6), nn.Linear(6, 2)).to(dtype)


def mlp(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 6, bias=False), nn.Linear(6, 2, bias=False)).to(dtype)


def backward(net, seed=0):
    torch.manual_seed(seed)
    net.zero_grad()
    x = torch.randn(5, 3, 6, 6).to(next(net.parameters()).dtype)
    loss = (net(x) - 1).square().mean()
    loss.backward()
    return loss


def closure_of(net):
    """The loss as `step` may ask for it; each call has gradients of its own."""
    return lambda: backward(net, seed=7)


def blocked(net):
    """Every kind of blocks in one optimizer."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    kinds = ("cosine", HEADS, "sticky")
    rest = [p for p in net.parameters() if p.ndim <= 1]
    return [dict(params=[p], blocks=b) for p, b in zip(matrices, kinds, strict=True)] + [dict(params=rest)]


OURS = {
    **{
        f"AdamP {way} {'nesterov' * nesterov}": lambda net, f=foreach, n=nesterov: AdamP(
            blocked(net), 1e-2, weight_decay=0.1, foreach=f, nesterov=n
        )
        for way, foreach in (("eager", False), ("foreach", True), ("any", None))
        for nesterov in (False, True)
    },
    "AdamP maximize": lambda net: AdamP(blocked(net), 1e-2, weight_decay=0.1, maximize=True),
    "AdamP capturable": lambda net: AdamP(blocked(net), 1e-2, foreach=True, capturable=True),
    "AdamP tensor lr": lambda net: AdamP(blocked(net), torch.tensor(1e-2), weight_decay=0.1),
    "AdamP cosine": lambda net: AdamP(net.parameters(), 1e-2, weight_decay=0.1),
    "AdamP none": lambda net: AdamP(net.parameters(), 1e-2, weight_decay=0.1, blocks=None),
    "SGDP": lambda net: SGDP(blocked(net), 0.1, 0.9, weight_decay=0.1),
    "SGDP nesterov": lambda net: SGDP(blocked(net), 0.1, 0.9, 0.2, weight_decay=0.1, nesterov=True),
}
OTHERS = {
    "AdamW": lambda net: torch.optim.AdamW(net.parameters(), 1e-2),
    "AdamW fused": lambda net: torch.optim.AdamW(net.parameters(), 1e-2, fused=True),
    "SGD": lambda net: torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=0.1),
    "SGD without momentum": lambda net: torch.optim.SGD(net.parameters(), 0.1),
    "Adafactor": lambda net: torch.optim.Adafactor(net.parameters(), 0.1),
    "timm AdamP": lambda net: timm.optim.AdamP(net.parameters(), 1e-2, weight_decay=0.1),
    "timm SGDP": lambda net: timm.optim.SGDP(net.parameters(), 0.1, momentum=0.9),
    "timm Lion": lambda net: timm.optim.Lion(net.parameters(), 1e-3),
}


class Reference:
    """Everything kept in float64 before and after a step, and the plain definitions on it."""

    def __init__(self, optimizer, blocks):
        self.optimizer, self.blocks = optimizer, blocks

    def before(self):
        self.old = {p: p.detach().double().clone() for p in self.blocks}
        self.gradients = {p: p.grad.double().clone() for p in self.blocks}

    def metrics(self, p):
        state = self.optimizer.state[p]
        m = next((state[key] for key in MOMENTA if state.get(key) is not None), None)
        rows = [self._block(p, m, span) for span in self.blocks[p]]
        columns = zip(*rows, strict=True)
        return {
            name: None if math.isnan(sum(x)) else _mean(x) if name in SIGNED else _mean([y * y for y in x]) ** 0.5
            for name, x in zip(METRICS, columns, strict=True)
        }

    def _block(self, p, m, span):
        w, g, new = (x[span[0] : span[1]].flatten() for x in (self.old[p], self.gradients[p], p.detach().double()))
        d, size = new - w, w.norm()
        unit = w / size
        step = (new / new.norm() - unit).norm()
        cosine, radial = g @ unit / g.norm(), d @ unit
        along = math.nan if m is None else (m := m.double()[span[0] : span[1]].flatten()) @ unit / m.norm()
        tangential = (d - radial * unit).norm() / size
        angle = 2 * (step / 2).asin()
        return [float(x) for x in (d.norm() / size, step, angle, tangential, cosine, radial / size, along)]


def _mean(x):
    return sum(x) / len(x)


def spans(p, blocks=None):
    """The blocks that are measured: those that are known, else channels."""
    return [(0, 2), (2, 4)] if blocks == HEADS else [(i, i + 1) for i in range(len(p))]


def compare(net, make, *, steps=4, tolerance=1e-9, closure=False, **settings):
    optimizer = make(net)
    groups = [(p, group.get("blocks")) for group in optimizer.param_groups for p in group["params"]]
    reference = Reference(optimizer, {p: spans(p, blocks) for p, blocks in groups if p.ndim > 1})
    with watch(optimizer, every=2, names=net.named_parameters(), **settings) as telemetry:
        for i in range(steps):
            backward(net, seed=7 if closure else i)
            reference.before()
            optimizer.step(closure_of(net)) if closure else optimizer.step()
            if i % 2:
                assert telemetry.latest["step"] == i + 1
                for name, p in net.named_parameters():
                    if p.ndim > 1:
                        _agree(telemetry.latest["weights"][name], reference, p, tolerance)
    assert [record["step"] for record in telemetry.records] == [2, 4][: steps // 2]
    return telemetry


def _agree(found, reference, p, tolerance):
    assert found["norm"] == pytest.approx(float(reference.old[p].norm()), rel=1e-12)
    assert found["blocks"] == len(reference.blocks[p])
    for metric, expected in reference.metrics(p).items():
        assert found[metric] == (expected and pytest.approx(expected, rel=tolerance, abs=tolerance)), metric


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("name", OURS | OTHERS)
def test_metrics_are_those_of_the_weights_before_and_after(name, closure):
    compare(model(), (OURS | OTHERS)[name], closure=closure)


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_predictions_are_those_of_the_weights_before_and_after(name, closure):
    compare(model(), OURS[name], closure=closure, limit=0)


def test_metrics_of_muon_are_those_of_the_weights_before_and_after():
    compare(mlp(), lambda net: torch.optim.Muon(net.parameters(), 1e-2))


@pytest.mark.parametrize("name", OURS | OTHERS)
def test_in_float32_they_agree_up_to_the_rounding_of_the_weights(name):
    compare(model(torch.float32), (OURS | OTHERS)[name], tolerance=2e-5)  # 6e-8 of |w|, against updates of 1e-2


@pytest.mark.parametrize("name", ["AdamP cosine", "AdamP any ", "SGDP", "SGD"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_what_counts_is_what_was_stored(name, dtype):
    compare(model(dtype), (OURS | OTHERS)[name], tolerance=1e-9)


def test_lbfgs_is_measured_over_its_whole_step():
    compare(mlp(), lambda net: torch.optim.LBFGS(net.parameters(), 0.1, max_iter=3), closure=True)


@pytest.mark.parametrize(
    ("make", "limit"), [(OURS["AdamP cosine"], 0), (OURS["AdamP cosine"], 10**6), (OTHERS["AdamW"], 10**6)]
)
def test_layout_in_memory_does_not_matter(make, limit):
    compare(model().to(memory_format=torch.channels_last), make, limit=limit)
    net = model()
    net[4].weight = nn.Parameter(torch.randn(64, 6, dtype=torch.float64).t())
    compare(net, make, limit=limit)


def test_tiny_angles_are_not_lost_in_a_cosine():
    w = nn.Parameter(torch.randn(3, 50, dtype=torch.float64))
    optimizer = torch.optim.SGD([w], lr=1e-11)
    with watch(optimizer, every=1) as telemetry:
        w.grad = torch.randn_like(w)
        wide, g = w.detach().clone(), w.grad
        optimizer.step()
    tangential = g - (wide * g).sum(1, keepdim=True) / (wide * wide).sum(1, keepdim=True) * wide
    expected = 1e-11 * (tangential.norm(dim=1) / wide.norm(dim=1)).square().mean().sqrt()
    # the weights are stored to 1e-16, a hundred thousandth of this step
    assert telemetry.latest["weights"]["0.0"]["angle"] == pytest.approx(float(expected), rel=1e-4)


def test_given_invariances_decide_the_blocks():
    net = model()
    found = find_invariances(net, torch.randn(5, 3, 6, 6, dtype=torch.float64))
    found["4.weight"], found["6.weight"] = Blocks(dim=1, size=16), None
    for make in (OURS["AdamP cosine"], OTHERS["AdamW"]):
        optimizer = make(net)
        with watch(optimizer, every=1, names=net.named_parameters(), invariances=found) as telemetry:
            backward(net)
            old, g = net[4].weight.detach().clone(), net[4].weight.grad
            optimizer.step()
        weights = telemetry.latest["weights"]
        assert [(own["kind"], own["blocks"]) for own in weights.values()] == [("channel", 4), ("groups", 4), (None, 2)]
        assert weights["6.weight"]["equilibrium_angle"] is None, "a weight that is not invariant has none"
        cosines = torch.cosine_similarity(*(x.unflatten(1, (4, 16)).transpose(0, 1).flatten(1) for x in (old, g)))
        assert weights["4.weight"]["gradient_cosine"] == pytest.approx(float(cosines.square().mean().sqrt()))


def test_blocks_that_do_not_fit_are_refused_at_once():
    net = model()
    with pytest.raises(ValueError, match=r"'4\.weight'.*does not divide"):
        watch(
            OTHERS["AdamW"](net), names=net.named_parameters(), invariances={"4.weight": Blocks(size=5)}, every=1
        ).close()


def test_projection_and_its_flips_are_told():
    w = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    optimizer = AdamP([w], lr=1e-3)
    orthogonal, along = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2)
    said = []
    with watch(optimizer, every=1) as telemetry:
        for g in (orthogonal, along, along, orthogonal):
            w.data, w.grad = torch.eye(2), g.clone()
            optimizer.step()
            said.append([telemetry.latest["weights"]["0.0"][key] for key in ("projected", "flips")])
    assert said == [[True, 0], [False, 1], [False, 1], [True, 2]]


def test_what_is_said_of_projection_is_what_the_kernel_did():
    net = model(torch.float32)
    optimizer = AdamP(net.parameters(), 1e-2)
    with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
        for i in range(20):
            backward(net, i)
            optimizer.step()
            for name, p in net.named_parameters():
                if p.ndim > 1 and "projected" in optimizer.state[p]:
                    assert telemetry.latest["weights"][name]["projected"] == bool(optimizer.state[p]["projected"])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: AdamW(p, 1e-3, weight_decay=0.1), adamw_rotation(lr=1e-3, decay=0.1, beta1=0.9)),
        (lambda p: SGD(p, 0.1, 0.9, weight_decay=1e-3), sgd_rotation(lr=0.1, decay=1e-3, momentum=0.9)),
        (lambda p: SGD(p, 0.1, 0.9, weight_decay=1e-3, nesterov=True), None),
        (lambda p: AdamW(p, 1e-3, weight_decay=0), None),
        (lambda p: Adam(p, 1e-3, weight_decay=0.1), None),
        (lambda p: AdamW(p, torch.tensor(1e-3), weight_decay=0.1), adamw_rotation(lr=1e-3, decay=0.1, beta1=0.9)),
        (lambda p: AdamP(p, 1e-3, weight_decay=0.1, blocks=Blocks()), projected_rotation(1 - 1e-3 * 0.1 * 0.1)),
        (lambda p: AdamP(p, 1e-3, weight_decay=0.1, blocks=None), adamw_rotation(lr=1e-3, decay=0.1, beta1=0.9)),
        (lambda p: SGDP(p, 0.1, 0.9, weight_decay=1e-3, blocks=Blocks(), wd_ratio=1), projected_rotation(0.999)),
        (lambda p: SGDP(p, 0.1, 0.9, weight_decay=1e-3, blocks=None), sgd_rotation(lr=0.1, decay=1e-3, momentum=0.9)),
    ],
)  # fmt: skip
def test_equilibrium_is_predicted_where_there_is_a_formula(make, expected):
    w = nn.Parameter(torch.randn(3, 4))
    optimizer = make([w])
    with watch(optimizer, every=1) as telemetry:
        w.grad = torch.randn_like(w)
        optimizer.step()
    found = telemetry.latest["weights"]["0.0"]["equilibrium_angle"]
    assert found == (expected and pytest.approx(expected, rel=1e-6))  # a tensor lr is in float32


def test_the_angle_of_adamw_settles_at_the_prediction():
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(8, 512))
    optimizer = torch.optim.AdamW([w], lr=0.02, weight_decay=0.5)
    with watch(optimizer, every=10, keep=20) as telemetry:
        for _ in range(500):
            x = torch.randn_like(w)
            w.grad = x - (x * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True) * w.detach()
            optimizer.step()
    own = [record["weights"]["0.0"] for record in telemetry.records]
    measured = _mean([x["angle"] for x in own])
    assert measured == pytest.approx(own[-1]["equilibrium_angle"], rel=0.05)  # the order of lr * decay, and sampling


class Reads(TorchDispatchMode):
    """Counts operations that wait for a device."""

    NAMES = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().split(".")[0] in self.NAMES
        return func(*args, **(kwargs or {}))


class Transfers(TorchFunctionMode):
    """Lists what is read until everything was brought to the host, and how often that happened."""

    READS = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__")

    def __init__(self):
        super().__init__()
        self.transfers, self.early = 0, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name == "cpu":
            self.transfers += 1
        elif name in self.READS and not self.transfers:
            self.early.append(name)
        return func(*args, **(kwargs or {}))


WITHOUT_READS = {
    "AdamP": lambda net: AdamP(blocked(net), 1e-2, capturable=True, foreach=True),
    "SGDP": lambda net: SGDP(blocked(net), 1e-2, 0.9, capturable=True, foreach=True),
    "AdamW": lambda net: torch.optim.AdamW(net.parameters(), 1e-2, fused=True),
    "SGD": lambda net: torch.optim.SGD(net.parameters(), 1e-2, 0.9, foreach=True),
}


@pytest.mark.parametrize("name", WITHOUT_READS)
def test_steps_wait_for_nothing_and_records_once(name, as_elsewhere):
    net = model()
    optimizer = WITHOUT_READS[name](net)
    with watch(optimizer, every=3, names=net.named_parameters()) as telemetry:
        found = []
        for _ in range(6):
            backward(net)
            with Reads() as reads, Transfers() as transfers:
                optimizer.step()
            found.append((transfers.transfers, transfers.early, reads.count if not transfers.transfers else 0))
    assert found == [(0, [], 0), (0, [], 0), (1, [], 0)] * 2
    assert len(telemetry.records) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", WITHOUT_READS)
def test_a_cuda_device_is_waited_for_once_per_record(name, recwarn):
    net = model(torch.float32).cuda()
    optimizer = WITHOUT_READS[name](net)
    with watch(optimizer, every=2, names=net.named_parameters()):
        waits = []
        for _ in range(4):
            for p in net.parameters():
                p.grad = torch.randn_like(p)
            recwarn.clear()
            torch.cuda.set_sync_debug_mode("warn")
            optimizer.step()
            torch.cuda.set_sync_debug_mode("default")
            waits.append(sum("synchronizing" in str(w.message) for w in recwarn.list))
    assert waits[2:] == [0, 1]  # the first record also puts the cuts on the device


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in known:
            self.elements = max(self.elements, out.numel())
        return out


@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None)])
def test_our_optimizers_are_measured_without_a_copy(blocks):
    w = nn.Parameter(torch.randn(1024, 1024))
    optimizer = AdamP([w], blocks=blocks)
    w.grad = torch.randn_like(w)
    optimizer.step()
    now = Measurement(optimizer, _watched(optimizer), limit=0, turn=0)
    with Largest() as largest:
        now.with_closure((optimizer,), {})
        (found,) = now.sums()
    assert found.sums.isfinite().all()
    assert largest.elements <= CPU_CHUNK < w.numel()


def _watched(optimizer):
    return watch(optimizer)._watch_list.weights()


@pytest.mark.parametrize("limit", [0, 10, 100, 1000, 3000, 10**6])
def test_others_copy_no_more_than_the_limit(limit):
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((40, 30), (4, 10), (2, 900), (7, 5, 3))]
    optimizer = torch.optim.AdamW(weights)
    measurement = Measurement(optimizer, _watched(optimizer), limit=limit, turn=1)
    assert sum(0 if copy.before is None else copy.before.numel() for copy in measurement._snapshots) <= limit


def test_beyond_the_limit_blocks_are_sampled_evenly_and_the_norm_is_whole():
    w = nn.Parameter(torch.randn(100, 10, dtype=torch.float64))
    optimizer = torch.optim.SGD([w], lr=0.1)
    with watch(optimizer, every=1, limit=250, detail="blocks") as telemetry:
        w.grad, old = torch.randn_like(w), w.detach().clone()
        optimizer.step()
    own = telemetry.latest["weights"]["0.0"]
    assert own["blocks"] == 25
    assert own["norm"] == pytest.approx(float(old.norm()))
    expected = (0.1 * w.grad.norm(dim=1) / old.norm(dim=1))[::4]
    assert own["per_block"]["relative_update"] == pytest.approx(expected.tolist())


def test_weights_that_do_not_fit_the_limit_take_turns():
    weights = [nn.Parameter(torch.randn(1, 10)) for _ in range(3)]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    measured = []
    with watch(optimizer, every=1, limit=10) as telemetry:
        for _ in range(3):
            for w in weights:
                w.grad = torch.randn_like(w)
            optimizer.step()
            own = telemetry.latest["weights"]
            assert all(x["norm"] is not None for x in own.values())
            measured.append([name for name, x in own.items() if x["angle"] is not None])
    assert measured == [["0.0"], ["0.1"], ["0.2"]]


@pytest.mark.parametrize("name", ["AdamW", "AdamW fused", "AdamP cosine", "timm AdamP"])
def test_a_step_that_a_scaler_skips_is_no_step(name):
    net = model(torch.float32)
    optimizer = (OURS | OTHERS)[name](net)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with watch(optimizer, every=2, names=net.named_parameters()) as telemetry:
        for i in range(4):
            net.zero_grad()
            scaler.scale(net(torch.randn(5, 3, 6, 6)).square().mean()).backward()
            if i == 1:
                net[0].weight.grad[0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
            if i == 1:
                assert telemetry.latest is None
    # a fused step is called and skips inside, and the next one makes up for it; another is not called at all
    assert [record["step"] for record in telemetry.records] == ([3, 4] if "fused" in name else [2])
    assert all(own["angle"] > 0 for own in telemetry.latest["weights"].values())


def test_a_step_of_length_zero_is_a_step():
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
        backward(net)
        optimizer.step()
    assert all(own["angle"] == own["relative_update"] == 0 for own in telemetry.latest["weights"].values())


@pytest.mark.parametrize("name", ["AdamW", "AdamP cosine", "AdamP any ", "SGDP", "SGD"])
def test_a_gradient_that_is_not_a_number_gives_null_for_its_weight_alone(name):
    net = model()
    optimizer = (OURS | OTHERS)[name](net)
    with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
        backward(net)
        net[4].weight.grad[:] = torch.nan
        optimizer.step()
    weights = telemetry.latest["weights"]
    assert weights["4.weight"]["angle"] is None and weights["4.weight"]["norm"] > 0
    assert weights["0.weight"]["angle"] > 0
    assert telemetry.latest["summary"]["angle"]["median"] > 0


EDGES = {
    "zero": lambda: torch.zeros(3, 4),
    "no dimensions": lambda: torch.tensor(2.0),
    "one dimension": lambda: torch.randn(5),
    "empty": lambda: torch.zeros(0, 4),
    "empty rows": lambda: torch.zeros(4, 0),
    "complex": lambda: torch.randn(3, 4, dtype=torch.complex64),
    "huge": lambda: torch.full((3, 4), 1e30),
    "tiny": lambda: torch.full((3, 4), 1e-30),
}


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda p: torch.optim.SGD(p, 1e-3, 0.9), 10**6),
        (lambda p: AdamP(p, 1e-3), 10**6),
        (lambda p: AdamP(p, 1e-3), 0),
    ],
)
@pytest.mark.parametrize("edge", EDGES)
def test_every_weight_can_be_watched(edge, make, limit):
    w = nn.Parameter(EDGES[edge]())
    optimizer = make([w])
    with watch(optimizer, every=1, where=lambda name, p: True, limit=limit) as telemetry:
        w.grad = torch.ones_like(w)
        norm = float(w.detach().abs().double().square().sum().sqrt())
        optimizer.step()
    own = telemetry.latest["weights"]["0.0"]
    assert own["norm"] == pytest.approx(norm, rel=1e-6)
    directed = edge not in ("zero", "empty", "empty rows")
    assert (own["angle"] is not None) == directed


def test_a_sparse_gradient_is_no_reason_to_stop():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
    with watch(optimizer, every=1) as telemetry:
        table(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
    own = telemetry.latest["weights"]["0.0"]
    assert own["angle"] > 0 and own["gradient_cosine"] is None


def test_weights_without_a_gradient_are_left_out_and_no_gradient_is_no_record():
    net = model()
    for name in ("AdamW", "AdamP cosine"):
        optimizer = (OURS | OTHERS)[name](net)
        net.zero_grad()
        with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
            optimizer.step()
            assert telemetry.latest is None
            net[4].weight.grad = torch.ones_like(net[4].weight)
            optimizer.step()
        assert list(telemetry.latest["weights"]) == ["4.weight"] and telemetry.latest["step"] == 2


def test_parameters_added_later_are_watched():
    net, more = model(), nn.Parameter(torch.randn(2, 2, dtype=torch.float64))
    for make in (OURS["AdamP cosine"], OTHERS["AdamW"]):
        optimizer = make(net)
        with watch(optimizer, every=1, names=net.named_parameters()) as telemetry:
            backward(net)
            optimizer.step()
            assert len(telemetry.latest["weights"]) == 3
            optimizer.add_param_group({"params": [more]})
            more.grad = torch.ones_like(more)
            optimizer.step()
        assert telemetry.latest["weights"]["1.0"]["angle"] > 0


@pytest.mark.parametrize("name", ["AdamP any ", "SGDP nesterov", "AdamW"])
def test_measuring_does_not_change_training(name):
    plain, watched = model(), model()
    a, b = (OURS | OTHERS)[name](plain), (OURS | OTHERS)[name](watched)
    with watch(b, every=1):
        for i in range(22):  # sticky blocks vote for 20 steps
            for net, optimizer in ((plain, a), (watched, b)):
                backward(net, i)
                optimizer.step()
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [OTHERS["AdamW"], lambda net: AdamP(net.parameters(), 1e-2, foreach=True)])
def test_compiled_models_and_steps_are_measured_the_same(make):
    found = []
    for compiles in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(108, 4, bias=False), nn.BatchNorm1d(4)).double()
        optimizer = make(net)
        run, step = net, optimizer.step
        if compiles:
            torch._dynamo.reset()
            run, step = torch.compile(net, backend="eager"), torch.compile(step, backend="eager")
        with watch(optimizer, every=2, names=run.named_parameters()) as telemetry:
            for i in range(4):
                backward(run, i)
                step()
        found.append([next(iter(record["weights"].values()))["angle"] for record in telemetry.records])
    assert len(found[1]) == 2
    assert found[1] == pytest.approx(found[0], rel=1e-4)  # torch's compiled AdamW corrects its bias in float32


def test_distributed_data_parallel_is_watched_by_its_first_process(tmp_path, monkeypatch):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = nn.parallel.DistributedDataParallel(model())
        found = find_invariances(net.module, torch.randn(5, 3, 6, 6, dtype=torch.float64))
        optimizer = AdamP(net.parameters())
        with watch(optimizer, every=1, names=net.named_parameters(), invariances=found) as telemetry:
            backward(net)
            optimizer.step()
        assert telemetry.latest["weights"]["module.0.weight"]["kind"] == "channel"
        mesh = DeviceMesh("cpu", [0])
        shard = nn.Parameter(DTensor.from_local(torch.randn(4, 4), mesh, [Replicate()]))
        shard.grad = DTensor.from_local(torch.randn(4, 4), mesh, [Replicate()])
        adamw = torch.optim.AdamW([shard], foreach=False)
        with watch(adamw, every=1) as telemetry:  # on several ranks: `tests/sharding/test_watch.py`
            length = shard.to_local().norm().item()
            adamw.step()
        assert telemetry.latest["weights"]["0.0"]["norm"] == pytest.approx(length)
        flat = nn.Parameter(torch.randn(16))
        flat._fsdp_flattened = True
        with pytest.raises(ValueError, match=r"flat vector of FullyShardedDataParallel.*fully_shard"):
            watch(torch.optim.AdamW([flat]), where=lambda name, p: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        with watch(optimizer, every=1) as idle, watch(optimizer, every=1, all_ranks=True) as asked:
            optimizer.step()
        assert idle.latest is None and asked.latest is not None
    finally:
        torch.distributed.destroy_process_group()


def test_leaving_ends_it_and_two_may_watch():
    net = model()
    optimizer = OTHERS["AdamW"](net)
    with watch(optimizer, every=1) as a, watch(optimizer, every=1) as b:
        backward(net)
        optimizer.step()
    optimizer.step()
    assert len(a.records) == len(b.records) == 1
    assert a.latest == b.latest
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_detail_bounds_the_record():
    net = model()
    optimizer = OTHERS["AdamW"](net)
    seen = {}
    for detail in ("summary", "weights", "quantiles", "blocks"):
        with watch(optimizer, every=1, detail=detail, names=net.named_parameters()) as telemetry:
            backward(net)
            optimizer.step()
        seen[detail] = telemetry.latest
    assert set(seen["summary"]) == {"step", "epoch", "summary"}
    assert not {"quantiles", "per_block"} & set(seen["weights"]["weights"]["0.weight"])
    low, middle, high = seen["quantiles"]["weights"]["0.weight"]["quantiles"]["angle"]
    assert low <= middle <= high
    assert len(seen["blocks"]["weights"]["0.weight"]["per_block"]["angle"]) == 4
    for record in list(seen.values())[1:]:
        angles = torch.tensor([own["angle"] for own in record["weights"].values()])
        assert record["summary"]["angle"]["median"] == pytest.approx(float(angles.median()))


def test_memory_of_records_is_bounded():
    net = model()
    optimizer = OTHERS["AdamW"](net)
    with watch(optimizer, every=1, keep=3) as telemetry:
        for _ in range(5):
            backward(net)
            optimizer.step()
    assert [record["step"] for record in telemetry.records] == [3, 4, 5]


def test_a_resumed_telemetry_goes_on_counting():
    net = model()
    optimizer = OURS["AdamP cosine"](net)
    with watch(optimizer, every=2) as first:
        for _ in range(3):
            backward(net)
            optimizer.step()
    with watch(optimizer, every=2) as second:
        second.load_state_dict(first.state_dict())
        backward(net)
        optimizer.step()
    assert second.latest["step"] == 4


def test_names_come_from_the_groups_or_the_order_and_are_never_shared():
    net = model()
    named = torch.optim.AdamW(net.named_parameters())
    for optimizer, names, first in (
        (named, None, "0.weight"),
        (torch.optim.AdamW(net.parameters()), None, "0.0"),
        (torch.optim.AdamW(net.parameters()), {"0.3": net[0].weight}, "0.3"),
    ):
        backward(net)
        with watch(optimizer, every=1, names=names) as telemetry:
            optimizer.step()
        assert next(iter(telemetry.latest["weights"])) == first
        assert len(telemetry.latest["weights"]) == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(every=0), ValueError, "every=0 must be at least 1"),
        (dict(every=2.5), TypeError, "every=2.5 must be an integer"),
        (dict(limit=-1), ValueError, "limit=-1 must be at least 0"),
        (dict(detail="all"), ValueError, "detail='all' must be one of summary, weights"),
        (dict(names=["0.weight"]), TypeError, "pairs of name and parameter"),
        (dict(invariances=[1]), TypeError, "invariances is a list"),
        (dict(invariances={"0.weight": None}), ValueError, "invariances need names"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        watch(torch.optim.AdamW(model().parameters()), **settings)


def test_what_is_no_optimizer_is_refused_and_wrappers_are_looked_into():
    with pytest.raises(TypeError, match="a Sequential came; pass the torch"):
        watch(model())

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

    net = model()
    optimizer = OTHERS["AdamW"](net)
    with watch(Wrapper(optimizer), every=1) as telemetry:
        backward(net)
        optimizer.step()
    assert telemetry.latest is not None

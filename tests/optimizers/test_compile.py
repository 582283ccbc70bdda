"""A step is one graph for the compiler, and never waits for a device."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP, Blocks

pytestmark = pytest.mark.slow

READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select")
MAKERS = {
    "adamp": lambda groups, **kw: AdamP(groups, lr=1e-2, weight_decay=0.1, **kw),
    "sgdp": lambda groups, **kw: SGDP(groups, lr=1e-2, weight_decay=0.1, momentum=0.9, **kw),
}


def model():
    torch.manual_seed(0)
    convolution = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(64, 6), nn.Linear(6, 2)).double()


def groups(net):
    """Every kind of blocks in one optimizer."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    kinds = ("cosine", Blocks(), "sticky")
    rest = [p for p in net.parameters() if p.ndim <= 1]
    return [dict(params=[p], blocks=b) for p, b in zip(matrices, kinds, strict=True)] + [dict(params=rest)]


def backward(net):
    net.zero_grad()
    net(torch.linspace(-1, 1, 2 * 3 * 36, dtype=torch.float64).view(2, 3, 6, 6)).square().mean().backward()


class Reads(TorchDispatchMode):
    """Counts operations that bring a tensor's data to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().split(".")[0] in READS
        return func(*args, **(kwargs or {}))


def reads_of(optimizer, net):
    backward(net)
    optimizer.step()
    backward(net)
    with Reads() as reads:
        optimizer.step()
    return reads.count


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_step_reads_nothing_back(name, foreach, capturable, as_elsewhere):
    net = model()
    assert reads_of(MAKERS[name](groups(net), foreach=foreach, capturable=capturable), net) == 0


def test_reading_back_would_be_counted():
    adamp = pytest.importorskip("adamp")
    net = model()
    assert reads_of(adamp.AdamP(net.parameters()), net) > 0


@pytest.mark.parametrize(("name", "foreach"), [("adamp", False), ("sgdp", True)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_step_is_one_graph_and_the_same(name, foreach):
    torch._dynamo.reset()
    plain, compiled = model(), model()
    a, b = (MAKERS[name](groups(net), foreach=foreach) for net in (plain, compiled))
    step = torch.compile(b.step, fullgraph=True)  # a graph break would raise
    for _ in range(4):
        for net in (plain, compiled):
            backward(net)
        a.step()
        step()
    for p, q in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_schedule_of_tensors_is_compiled_once_and_followed(name, foreach):
    torch._dynamo.reset()
    compiled = CompileCounter()  # runs what was traced as it is
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    numbers, tensors = ([group | settings for group in groups(model())] for _ in range(2))
    for group in tensors:
        group.update({key: torch.tensor(value, dtype=torch.float64) for key, value in settings.items()})
    a, b = (MAKERS[name](each, foreach=foreach) for each in (numbers, tensors))
    step = torch.compile(b.step, fullgraph=True, backend=compiled)
    for t in range(100):
        for group, other in zip(a.param_groups, b.param_groups, strict=True):
            for i, (p, q) in enumerate(zip(group["params"], other["params"], strict=True)):
                p.grad = torch.linspace(-1, 1 + i, p.numel(), dtype=p.dtype).add(t).sin().view_as(p)
                q.grad = p.grad.clone()
            for key, value in settings.items():
                group[key] = value * (1 + t % 7)
                other[key].fill_(group[key])
        a.step()
        step()
    assert compiled.frame_count == 1
    for group, other in zip(a.param_groups, b.param_groups, strict=True):
        torch.testing.assert_close(group["params"], other["params"], rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_step_never_synchronises_a_cuda_device(name, foreach):
    net = model().cuda()
    optimizer = MAKERS[name](groups(net), foreach=foreach)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")

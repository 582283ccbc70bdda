"""What the kernel is handed: mixed lists, odd layouts, weights that change under way, and a machine without it."""

import warnings

import pytest
import torch

from support.weights import gap, give_gradients, run, weights
from tangential import SGDP, AdamP
from tangential.kernels import build, cpu

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")


def strided(p):
    return torch.stack([p, p], -1)[..., 0]


def test_mixed_lists_are_split_and_never_refused():
    shapes = [(6, 7), (5,), (4, 3), (3, 4)]
    kinds = (lambda p: p.float(), lambda p: p.double(), lambda p: strided(p.float()), lambda p: p.bfloat16())
    together = [kind(p.detach()).requires_grad_() for kind, p in zip(kinds, weights(shapes=shapes), strict=True)]
    apart = [p.detach().clone(memory_format=torch.preserve_format).requires_grad_() for p in together]
    optimizer = AdamP(together, lr=1e-2)
    assert optimizer.backend == "fused+foreach"
    a = run(optimizer, together, 3)
    b = [run(AdamP([p], lr=1e-2, foreach=True), [p], 0) for p in apart]
    for step in range(3):
        give_gradients(apart, step)
        for i, p in enumerate(apart):
            if step == 0:
                b[i] = AdamP([p], lr=1e-2, foreach=True)
            b[i].step()
    assert gap([p.double() for p in a], [p.detach().double() for p in apart]) < 1e-2
    assert all(own["step"] == 3 for own in optimizer.state.values())


@pytest.mark.parametrize("layout", ["strided", "transposed-gradient"])
def test_layouts_that_the_kernel_cannot_walk_are_left_to_foreach(layout):
    params = weights(torch.float32, [(6, 7), (30, 40)])
    if layout == "strided":
        params = [strided(p.detach()).requires_grad_() for p in params]
    optimizer = AdamP(params, lr=1e-2, fused=True)
    exact = weights(shapes=[(6, 7), (30, 40)])
    for step in range(4):
        for some in (params, exact):
            give_gradients(some, step)
        if layout == "transposed-gradient" and step % 2:
            for p in params:
                p.grad = p.grad.t().contiguous().t()
        optimizer.step()
    assert gap([p.detach().double() for p in params], run(AdamP(exact, lr=1e-2), exact, 4)) < 1e-6


def test_a_weight_that_changes_under_way_is_seen():
    w = weights(torch.float32, [(6, 6)])[0]
    twin = w.detach().clone().requires_grad_()
    ours, theirs = AdamP([w], lr=1e-2, fused=True), AdamP([twin], lr=1e-2, foreach=False)
    for step in range(4):
        if step == 2:  # the same memory, another layout
            w.data, twin.data = w.data.t(), twin.data.t()
        for p, optimizer in ((w, ours), (twin, theirs)):
            give_gradients([p], step)
            optimizer.step()
    torch.testing.assert_close(w, twin)


def test_a_step_is_an_in_place_change_to_autograd():
    w = torch.randn(3, 4, requires_grad=True)
    loss = (w * w).sum()
    w.grad = torch.ones_like(w)
    AdamP([w], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_what_cannot_be_honoured_is_refused(dtype):
    with pytest.raises(ValueError, match=rf"fused=True, but a parameter is {dtype}, and the kernel steps float32"):
        AdamP([torch.ones(3, 2, dtype=dtype, requires_grad=True)], fused=True)
    with pytest.raises(ValueError, match="on meta"):
        AdamP([torch.ones(3, 2, device="meta", requires_grad=True)], fused=True)
    w = torch.ones(3, 2, requires_grad=True)
    optimizer = AdamP([w], fused=True)
    w.data = w.data.to(dtype)
    w.grad = torch.ones_like(w)
    with pytest.raises(ValueError, match="fused=True, but a parameter is"):
        optimizer.step()


def halve_memory(x):
    x.untyped_storage().resize_(x.untyped_storage().nbytes() // 2)


def expand(own, key):
    own[key] = own[key][..., :1].expand(own[key].shape)


UNFIT = {
    "short weight": lambda p, own: halve_memory(p),
    "short transposed gradient": lambda p, own: (setattr(p, "grad", p.grad.mT.contiguous().mT), halve_memory(p.grad)),
    "expanded moment": lambda p, own: expand(own, "exp_avg"),
    "step count of another shape": lambda p, own: own.update(step=torch.ones(1, 2)),
    "integer step count": lambda p, own: own.update(step=torch.ones((), dtype=torch.uint8)),
    "votes of another shape": lambda p, own: own.update(votes=torch.zeros(3, dtype=torch.int32)),
}


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("what", UNFIT)
def test_what_does_not_fit_is_refused_before_anything_moves(what, foreach):
    first, second = weights(torch.float32, [(6, 7), (30, 40)])
    optimizer = AdamP([first, second], blocks="sticky", foreach=foreach)
    run(optimizer, [first, second], 2)
    UNFIT[what](second, optimizer.state[second])
    before = [x.clone() for x in (first, *optimizer.state[first].values())]
    with pytest.raises(ValueError, match=r"\(30, 40\)"):
        optimizer.step()
    assert all(torch.equal(x, old) for x, old in zip((first, *optimizer.state[first].values()), before, strict=True))


def test_backend_says_what_runs():
    half, whole = torch.ones(3, 2, requires_grad=True), torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    assert AdamP([half]).backend == "fused"
    assert AdamP([whole]).backend == "foreach"
    assert AdamP([half], fused=False).backend == "foreach"
    assert AdamP([half], foreach=False).backend == "eager"
    assert AdamP([half], differentiable=True).backend == "eager"
    assert SGDP([dict(params=[half]), dict(params=[whole], foreach=False)]).backend == "fused+eager"


def test_without_the_library_one_warning_and_plain_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    for cached in (cpu.library, cpu.warn_if_missing):
        cached.cache_clear()
    try:
        params, twins = weights(torch.float32), weights(torch.float32)
        optimizer = AdamP(params, lr=1e-2)
        with pytest.warns(RuntimeWarning, match="python -m tangential.kernels"):
            a = run(optimizer, params, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert optimizer.backend == "foreach"
            others = weights(torch.float32)
            run(AdamP(others), others, 1)
        b = run(AdamP(twins, lr=1e-2, foreach=True), twins, 1)
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
        with pytest.raises(ValueError, match="cannot be loaded"):
            AdamP(weights(torch.float32), fused=True)
    finally:
        for cached in (cpu.library, cpu.warn_if_missing):
            cached.cache_clear()


@pytest.mark.parametrize("state", ["no sources", "cut short", "another library"])
def test_a_library_that_cannot_be_used_costs_speed_only(state, monkeypatch, tmp_path):
    if state == "no sources":
        monkeypatch.setattr(build, "SOURCES", tmp_path / "none")
    else:
        monkeypatch.setattr(build, "FOLDER", tmp_path)
        if state == "cut short":
            cpu._file().write_bytes(b"\x7fELF cut")
        else:  # one that is loaded already, without our functions
            monkeypatch.setattr(cpu, "_file", lambda: None)
            monkeypatch.setattr(cpu.ctypes, "CDLL", lambda _, load=cpu.ctypes.CDLL: load(None))
    for cached in (cpu.library, cpu.warn_if_missing, build.digest):
        cached.cache_clear()
    try:
        params = weights(torch.float32)
        with pytest.warns(RuntimeWarning, match="plain torch"):
            run(AdamP(params), params, 1)
    finally:
        monkeypatch.undo()
        for cached in (cpu.library, cpu.warn_if_missing, build.digest):
            cached.cache_clear()

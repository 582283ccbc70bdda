"""The kernel is the same step as the definition to rounding, whatever it guessed and however many threads help."""

import copy
import importlib
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP, Blocks
from tangential.backends.fused import SAID
from tangential.kernels import build, cpu, plan
from test_backends import BLOCKS, RULES, shapes_for
from weights import gap, give_gradients, run, tangent, weights

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")

choose = importlib.import_module("tangential.backends.choose")  # the package has a function of this name
SPACING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
LARGE = [(3, 70_000), (40_000, 3), (200, 300), (2, 40, 3, 3), (1, 9), (64, 16), (100, 64), (7,), (70_000,)]
LARGE_FITS = {"heads": [(200, 300), (40_000, 3)], "fused": [(200, 300), (9, 70_000)]}


def large_for(kind):
    return LARGE_FITS.get(kind) or ([s for s in LARGE if len(s) > 1] if kind not in ("cosine", "none") else LARGE)


def exact_twin(optimizer, params):
    """The definition in float64, at the same weights, gradients and moments as an optimizer."""
    twins = [p.detach().double().requires_grad_() for p in params]
    group = {k: v for k, v in optimizer.param_groups[0].items() if k in optimizer.defaults}
    twin = type(optimizer)(twins, **{**group, "foreach": False, "fused": None})
    for p, q in zip(params, twins, strict=True):
        q.grad = p.grad.double()
        if p in optimizer.state:
            twin.state[q] = {k: v.double() for k, v in optimizer.state[p].items() if k != SAID}
            twin.state[q]["step"] = optimizer.state[p]["step"].clone()
    return twin, twins


@pytest.fixture
def kernel_alone(monkeypatch):
    """Fails a test in which something is left to foreach."""
    monkeypatch.setattr(choose, "foreach", lambda batch: pytest.fail("a weight was left to foreach"))


def worst_step(optimizer, params, steps, before_step=lambda: None):
    """Largest error of one step over some, in spacings of the dtype at each entry's size, from the same state."""
    worst = 0.0
    for step in range(steps):
        give_gradients(params, step)
        for p in params:
            p.grad = torch.empty_like(p).copy_(p.grad)  # as autograd makes them: gradients lie like their weights
        before_step()
        twin, twins = exact_twin(optimizer, params)
        before = [p.detach().double() for p in params]
        optimizer.step()
        twin.step()
        for p, q, old in zip(params, twins, before, strict=True):
            size = torch.maximum(q.detach().abs(), old.abs()).clamp_min((q - old).abs().max().item() * 1e-2 + 1e-30)
            worst = max(worst, float(((p.double() - q) / size).detach().abs().max()) / SPACING[p.dtype])
    return worst


DENSE = {
    "contiguous": lambda p: p.clone(),
    "channels-last": lambda p: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p.clone(),
    "transposed": lambda p: p.transpose(0, 1).contiguous().transpose(0, 1) if p.ndim > 1 else p.clone(),
}


def made(rule, kind, dtype, shapes, layout="contiguous", **settings):
    cls, hyper = RULES[rule]
    params = [DENSE[layout](p.detach()).requires_grad_() for p in weights(dtype, shapes)]
    return cls(params, blocks=BLOCKS[kind], fused=True, **{**hyper, **settings}), params


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_the_definition_to_rounding(rule, kind, dtype, layout, kernel_alone):
    optimizer, params = made(rule, kind, dtype, shapes_for(kind), layout)
    # float32 arithmetic, then one rounding to the dtype, or two after a wrong guess
    assert worst_step(optimizer, params, 6) < (20 if dtype == torch.float32 else 1.6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_rows_of_every_length_on_any_number_of_threads(rule, kind, threads, kernel_alone):
    torch.set_num_threads(threads)
    optimizer, params = made(rule, kind, torch.float32, large_for(kind))
    assert worst_step(optimizer, params, 2) < 200  # sums of 70 000 products


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_number_of_threads_does_not_change_a_bit(rule, kind):
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        optimizer, params = made(rule, kind, torch.float32, large_for(kind))
        found.append(run(optimizer, params, 3))
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None)])
def test_a_row_of_three_million(rule, blocks):
    cls, hyper = RULES[rule]
    params = weights(torch.float32, [(1, 3_000_000)])
    optimizer = cls(params, blocks=blocks, fused=True, **hyper)
    assert worst_step(optimizer, params, 2) < 2000  # sums of three million products


@pytest.mark.parametrize(
    ("dtype", "scale", "allowed"),
    # the rounding of a wrong guess is multiplied by the factor between it and what is right, which is large where a
    # step is many times the weight, as at the last scale
    [(torch.float32, 1.0, 20), (torch.float32, 1e-2, 40), (torch.float32, 1e-4, 500), (torch.bfloat16, 1.0, 3)],
)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("rule", RULES)
def test_a_wrong_guess_is_repaired(rule, dtype, scale, allowed, layout, kernel_alone):
    optimizer, params = made(
        rule, "cosine", dtype, [(8, 3, 3, 3), (6, 7), (30, 140), (2, 20_000), (4, 1, 3, 3)], layout
    )
    with torch.no_grad():
        for p in params:
            p.mul_(scale)

    def lie():
        for own in optimizer.state.values():
            own[SAID] = torch.tensor(0 if own[SAID] == 1 else 1, dtype=torch.uint8)

    assert worst_step(optimizer, params, 8, lie) < allowed


@pytest.mark.parametrize("rule", RULES)
def test_the_last_decision_is_kept_and_readable(rule):
    cls, hyper = RULES[rule]
    params = weights(torch.float32, [(8, 30), (8, 30), (8, 30), (8,)])
    optimizer = cls(params, **hyper)
    give_gradients(params, 0)
    params[0].grad = tangent(params[0], params[0].grad)
    params[1].grad = params[1].detach().clone()
    whole = params[2].detach().flatten()[None]
    params[2].grad = tangent(whole, torch.randn(1, 240)).view(8, 30)
    optimizer.step()
    assert [int(optimizer.state[p][SAID]) for p in params[:3]] == [1, 0, 2]
    assert SAID not in optimizer.state[params[3]]


POISON = [0.0, -0.0, 1e-45, -1e-40, 1e-30, 1e30, -3e38, float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("where", ["weight", "grad"])
@pytest.mark.parametrize("kind", ["cosine", "none", "channel", "layer"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:overflow")
def test_one_odd_row_does_to_a_weight_what_the_definition_does(rule, kind, where, poison):
    cls, hyper = RULES[rule]
    shapes = [(8, 27), (6, 70), (8, 3), (3, 20_000)]
    found = []
    for backend in (dict(fused=True), dict(foreach=False)):
        params = weights(torch.float32, shapes)
        optimizer = cls(params, blocks=BLOCKS[kind], **backend, **hyper)
        give_gradients(params, 0)
        optimizer.step()
        give_gradients(params, 1)
        with torch.no_grad():
            for p in params:
                (p if where == "weight" else p.grad)[1] = poison
        optimizer.step()
        found.append([p.detach() for p in params])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours.isfinite(), theirs.isfinite())
        both = ours.isfinite() & (theirs.abs() < 1e28)
        torch.testing.assert_close(ours[both], theirs[both], rtol=1e-4, atol=1e-6)


def test_odd_values_reach_only_their_own_weight():
    sick, well = weights(torch.float32), weights(torch.float32)
    for params in (sick, well):
        give_gradients(params, 0)
    sick[2].grad[1, 3] = float("nan")
    for params in (sick, well):
        AdamP(params, fused=True).step()
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(sick, well, strict=True)) if i != 2)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_bfloat16_moments_are_taken(name):
    params = weights(torch.bfloat16)
    optimizer = AdamP(params, lr=1e-2, fused=True)
    run(optimizer, params, 1)
    for own in optimizer.state.values():
        for key in ("exp_avg", "exp_avg_sq"):
            own[key] = own[key].bfloat16()
    assert worst_step(optimizer, params, 3) < 3  # moments are rounded too
    assert all(own[name].dtype == torch.bfloat16 for own in optimizer.state.values())


@pytest.mark.parametrize("rule", RULES)
def test_resuming_continues_bit_for_bit(rule):
    cls, hyper = RULES[rule]
    a = weights(torch.float32)
    first = cls(a, **hyper)
    run(first, a, 5)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = cls(b, **hyper)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(own[SAID].dtype == torch.uint8 for own in second.state.values() if SAID in own)
    for step in range(3):
        give_gradients(a, step)
        give_gradients(b, step)
        first.step()
        second.step()
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("before", "after"), [("fused", "foreach"), ("foreach", "fused")])
def test_state_moves_between_backends(rule, before, after):
    cls, hyper = RULES[rule]
    a, straight = weights(torch.float32), weights(torch.float32)
    first = cls(a, **{before: True}, **hyper)
    run(first, a, 3)
    saved = copy.deepcopy(first.state_dict())
    for group in saved["param_groups"]:
        group.update({"fused": None, "foreach": None, after: True})
    second = cls(a, **hyper)
    second.load_state_dict(saved)
    assert second.backend == after
    other = cls(straight, foreach=True, **hyper)
    run(other, straight, 3)
    assert gap(run(second, a, 3), run(other, straight, 3)) < 1e-5
    assert any(SAID in own for own in second.state.values()) == (after == "fused")


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


class Largest(TorchDispatchMode):
    """The most elements that any operation gave back."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.elements = max(
            [self.elements, *(x.numel() for x in torch.utils._pytree.tree_leaves(found) if torch.is_tensor(x))]
        )
        return found


@pytest.mark.parametrize("backend", [dict(fused=True), dict(foreach=True)])
def test_no_tensor_of_the_size_of_a_weight_is_made(backend):
    params = weights(torch.float32, [(200, 300), (60_000,)])
    optimizer = AdamP(params, **backend)
    run(optimizer, params, 2)
    with Largest() as largest:
        optimizer.step()
    assert (largest.elements < 10) == ("fused" in backend)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("layout", DENSE)
def test_pieces_cover_every_element_once(kind, layout):
    for shape in large_for(kind):
        w = DENSE[layout](torch.empty(shape))
        blocks = BLOCKS[kind] if len(shape) > 1 else None
        form = plan.form(w.shape, w.stride(), getattr(blocks, "dim", 0))
        seen = torch.zeros(w.numel(), dtype=torch.int64)
        for mode, offset, cut in plan.runs(w.shape, form, blocks):
            run_ = plan.Run(
                weight=0,
                group=0,
                storage=0,
                mode=mode,
                offset=offset,
                slabs=cut.slabs,
                stride=form.rows * form.cols,
                rows=cut.rows,
                cols=cut.cols,
            )
            for slab in range(cut.slabs):
                at = offset + slab * run_.stride
                seen[at : at + cut.rows * cut.cols] += 1
            table = plan.Plan([run_])
            count, size = run_.grains
            assert sum(table.pieces[2::3]) == count
            assert count * size >= cut.slabs * cut.rows * cut.cols
            assert table.bounds[-1] == len(table.pieces) // 3 and sorted(table.bounds) == list(table.bounds)
            assert table.sums * 16 <= w.numel() or cut.slabs * cut.cols < plan.SLABS
        assert (seen == 1).all()

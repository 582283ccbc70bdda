"""Half-precision weights with remainders are float32 weights; without, rounding is exact on average."""

import copy

import pytest
import torch

from support.step_matrix import BLOCKS, RULES, shapes_for
from support.weights import float32_copies, give_gradients, run, step_both, weights
from tangential import SGDP, AdamP
from tangential.backends import REMAINDER
from tangential.backends import cpu_chunks as chunks
from tangential.backends.remainders import master, write, write_stochastic
from tangential.kernels.cpu import why_missing

HALF = [torch.bfloat16, torch.float16]
with_kernel = pytest.mark.skipif(why_missing() is not None, reason="no kernel here")
BACKENDS = [
    pytest.param(dict(foreach=False), id="eager"),
    pytest.param(dict(foreach=True), id="foreach"),
    pytest.param(dict(fused=True), id="fused", marks=with_kernel),
]
SPECIAL = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3.4028235e38, -3.4028235e38, 1e-45, -1e-45, 1.17e-38]


def parted(x, dtype):
    w, remainder = torch.empty_like(x, dtype=dtype), torch.empty_like(x, dtype=torch.int16)
    write(x, w, remainder)
    return w, remainder


def any_floats(n=200_000):
    """Every kind of float32: all bit patterns alike, and the special ones."""
    bits = torch.randint(-(2**31), 2**31, (n,), dtype=torch.int64).to(torch.int32)
    return torch.cat([bits.view(torch.float32), torch.tensor(SPECIAL)])


def test_bfloat16_and_remainder_are_every_float32():
    x = any_floats()
    w, remainder = parted(x, torch.bfloat16)
    found = master(w, remainder)
    assert torch.equal(found.isnan(), x.isnan()) and torch.equal(w.isnan(), x.isnan())
    assert torch.equal(found.view(torch.int32)[~x.isnan()], x.view(torch.int32)[~x.isnan()])
    off = (w.double() - x.double())[x.isfinite() & w.isfinite()].abs()
    assert (off <= (x.bfloat16().double() - x.double())[x.isfinite() & w.isfinite()].abs()).all()  # the nearest


def test_float16_and_remainder_are_float32_where_float16_is_normal():
    x = torch.randn(200_000) * torch.randn(200_000).mul(4).exp()
    w, remainder = parted(
        torch.cat([x, torch.tensor([0.0, 65504.0, 65519.0, 7e4, float("inf"), float("nan")])]), HALF[1]
    )
    found = master(w, remainder)
    normal = (x.abs() >= 2**-14) & (x.abs() < 65504)
    assert torch.equal(found[: len(x)][normal], x[normal])
    assert ((found[: len(x)] - x).abs()[x.abs() < 2**-14] <= 2.0**-41).all()
    assert torch.equal(w[: len(x)], x.half())
    assert found[len(x) :].tolist()[:3] == [0.0, 65504.0, 65519.0]
    assert found[-3:-1].isinf().all() and found[-1].isnan()


@pytest.mark.parametrize("dtype", HALF)
def test_a_remainder_of_another_weight_is_worth_less_than_rounding(dtype):
    w = any_floats().to(dtype)
    for remainder in (-(2**15), -1, 1, 2**15 - 1):
        found = master(w, torch.full_like(w, remainder, dtype=torch.int16))
        assert torch.equal(found.isnan(), w.isnan())
        assert torch.equal(found.isinf(), w.isinf()) or remainder < 0  # below infinity lies the largest float32
        finite = w.isfinite()
        near = torch.nextafter(w.float(), torch.full_like(w.float(), torch.inf))
        assert (found - w.float())[finite].abs().le((near * 2**-7).abs()[finite] + 2.0**-25).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_of_float32(rule, dtype, kind, backend, monkeypatch):
    monkeypatch.setattr(chunks, "PIECE", 64)  # every weight in pieces
    cls, hyper = RULES[rule]
    half = weights(dtype, shapes_for(kind))
    full = float32_copies(half)
    a = cls(half, blocks=BLOCKS[kind], compensation="kahan", **hyper, **backend)
    b = cls(full, blocks=BLOCKS[kind], **hyper, **backend)
    for step in range(6):
        step_both(a, b, step)
    for p, q in zip(half, full, strict=True):
        found = master(p.detach(), a.state[p][REMAINDER])
        # torch's and the kernel's float32 steps add up in another order
        assert not p.numel() or (found - q).abs().max() <= 2e-6 * q.abs().max()
        assert (p.float() - found).abs().le(found.abs() * 2.0**-8 + 2.0**-25).all()


LAYOUTS = {
    "channels-last": lambda p: p.to(memory_format=torch.channels_last),
    "transposed": lambda p: p.transpose(0, 1).contiguous().transpose(0, 1),
    "with gaps": lambda p: torch.stack([p, p], -1)[..., 0],
    "negated": lambda p: torch._neg_view(-p),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", [*BACKENDS[:2], pytest.param({}, id="default")])
def test_layout_of_a_weight_does_not_matter(backend, layout):
    found = []
    for lay in (LAYOUTS[layout], lambda p: p):
        params = [lay(p.detach()).requires_grad_() for p in weights(torch.bfloat16, [(8, 3, 3, 3)])]
        optimizer = AdamP(params, lr=1e-3, compensation="kahan", **backend)
        run(optimizer, params, 5)
        found.append(master(params[0].detach().resolve_neg(), optimizer.state[params[0]][REMAINDER]))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", HALF)
def test_stochastic_rounding_is_exact_on_average_and_a_neighbour(dtype):
    x = torch.tensor([0.1, 1.0003, -3.3e-3, 5e-6, 0.0, -300.1, 60001.0]).expand(2000, -1).contiguous()
    total, w = torch.zeros_like(x, dtype=torch.float64), torch.empty_like(x, dtype=dtype)
    for step in range(1, 33):
        write_stochastic(x, w, float(step))
        total += w.double()
        distance = (w.double() - x.double()).abs()
        assert (distance < torch.finfo(dtype).eps * x.double().abs() + 2.0**-24).all()
    error = (total.mean(0) / 32 - x[0].double()).abs()
    spread = torch.finfo(dtype).eps * x[0].double().abs() + 2.0**-25
    assert (error < 5 * spread / (2 * (2000 * 32) ** 0.5)).all()
    write_stochastic(torch.tensor([float("inf"), -float("inf"), float("nan")]), w := torch.empty(3, dtype=dtype), 1.0)
    assert w[:2].isinf().all() and w[2].isnan()


@pytest.mark.parametrize("dtype", HALF)
def test_stochastic_steps_are_repeated_by_every_copy_and_every_backend(dtype):
    found = []
    for backend in (dict(foreach=False), dict(foreach=True), {}, dict(capturable=True)):
        params = weights(dtype)
        optimizer = AdamP(params, lr=1e-4, compensation="stochastic", **backend)
        torch.manual_seed(len(found))  # no generator is used
        run(optimizer, params, 3)
        again = [p.detach().clone().requires_grad_() for p in params]
        other = AdamP(again, lr=1e-4, compensation="stochastic", **backend)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for step in (3, 4):
            for each, one in ((params, optimizer), (again, other)):
                give_gradients(each, step)
                one.step()
        assert all(map(torch.equal, params, again))
        assert not any(REMAINDER in own for own in optimizer.state.values()) and optimizer.backend != "fused"
        found.append([p.detach() for p in params])
    for others in found[1:]:
        assert all(
            torch.allclose(p.float(), q.float(), rtol=2 * torch.finfo(dtype).eps)
            for p, q in zip(found[0], others, strict=True)
        )


@pytest.mark.parametrize(("lr", "worst"), [(1e-4, 0.01), (1e-5, 0.01)])
@pytest.mark.parametrize("compensation", ["kahan", "stochastic", None])
def test_weights_travel_as_far_as_in_float32(compensation, lr, worst):
    """By distance and by error, as the table of `docs/low-precision.md` has it."""
    start = (torch.randn(128, 128) * 0.02).bfloat16()
    half, full = start.clone().requires_grad_(), start.float().requires_grad_()
    a, b = AdamP([half], lr=lr, compensation=compensation), AdamP([full], lr=lr)
    drift = torch.randn(128, 128)
    for _ in range(100):
        half.grad = (drift + torch.randn(128, 128)).bfloat16()
        full.grad = half.grad.float()
        a.step()
        b.step()
    moved, right = half.detach().double() - start.double(), full.detach().double() - start.double()
    rounding = (full.detach().bfloat16().double() - full.detach().double()).norm() / right.norm()
    error, distance = (moved - right).norm() / right.norm(), (moved * right).sum() / right.norm() ** 2
    if compensation == "kahan":
        assert error < 1.01 * rounding
    if compensation is None:
        assert distance < 0.9
    else:
        assert abs(distance - 1) < worst + rounding / 30


def test_only_bfloat16_is_compensated_unless_asked():
    params = [torch.randn(4, 3, dtype=dtype).requires_grad_() for dtype in (torch.float32, *HALF)]
    for setting, expected in (("auto", [0, 1, 0]), ("kahan", [0, 1, 1]), ("stochastic", [0, 0, 0]), (None, [0, 0, 0])):
        optimizer = SGDP(params, lr=0.1, compensation=setting)
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
        assert [int(REMAINDER in optimizer.state[p]) for p in params] == expected
        assert all(own[REMAINDER].dtype == torch.int16 for own in optimizer.state.values() if REMAINDER in own)


def test_what_is_written_to_a_weight_counts():
    w = torch.randn(8, 9, dtype=torch.bfloat16).requires_grad_()
    optimizer = AdamP([w], lr=1e-2)
    run(optimizer, [w], 3)
    with torch.no_grad():
        w.fill_(2.0)
        w[0].zero_()
        w[1] = -0.0
    w.grad = torch.zeros_like(w)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert torch.equal(w[2:], torch.full_like(w[2:], 2.0)) and w[:2].abs().max() == 0


def test_switching_in_the_middle_of_a_run_starts_afresh():
    w = torch.randn(8, 9, dtype=torch.bfloat16).requires_grad_()
    optimizer = AdamP([w], lr=1e-3, compensation=None)
    run(optimizer, [w], 3)
    assert REMAINDER not in optimizer.state[w]
    optimizer.param_groups[0]["compensation"] = "kahan"
    run(optimizer, [w], 3)
    assert optimizer.state[w][REMAINDER].any()


@pytest.mark.parametrize("compensation", ["kahan", "stochastic"])
@pytest.mark.parametrize("backend", [*BACKENDS[:2], pytest.param({}, id="default")])
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0, 2)])
def test_a_learning_rate_may_be_a_tensor_of_any_precision(shape, backend, compensation):
    found = []
    for lr in (0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64), torch.tensor([0.25])):
        w = torch.full(shape, 1.5, dtype=torch.bfloat16).requires_grad_()
        optimizer = SGDP([w], lr=lr, momentum=0.9, compensation=compensation, **backend)
        for _ in range(2):
            w.grad = torch.full_like(w, 0.3)
            optimizer.step()
        found.append(w.detach())
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize("value", ["Kahan", "none", 1, True, ["kahan"]])
def test_what_compensation_cannot_be_is_refused(value):
    with pytest.raises(
        (TypeError, ValueError), match=r"compensation=.* must be one of 'auto', 'kahan', 'stochastic', None"
    ):
        AdamP([torch.zeros(2, 2, requires_grad=True)], compensation=value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(compensation="stochastic", fused=True), "the kernel rounds to nearest; use fused=None"),
        (dict(compensation="kahan", differentiable=True), "autograd cannot look into bits"),
        (dict(compensation="stochastic", differentiable=True), "autograd cannot look into bits"),
    ],
)
def test_what_excludes_compensation_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SGDP([torch.zeros(2, 2, requires_grad=True)], lr=0.1, **settings)


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.float(),
        lambda r: r[:3],
        lambda r: r.t(),
        lambda r: r.to("meta"),
        lambda r: r.to_sparse(),
        lambda r: r.tolist(),
    ],
)
def test_a_damaged_remainder_is_refused(damage):
    w = torch.randn(8, 9, dtype=torch.bfloat16).requires_grad_()
    optimizer = AdamP([w])
    run(optimizer, [w], 2)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0][REMAINDER] = damage(saved["state"][0][REMAINDER])
    with pytest.raises((TypeError, ValueError), match=REMAINDER):
        optimizer.load_state_dict(saved)


def test_a_checkpoint_without_remainders_loads_and_one_with_them_loads_without():
    w = torch.randn(8, 9, dtype=torch.bfloat16).requires_grad_()
    optimizer, plain = AdamP([w]), AdamP([w], compensation=None)
    run(optimizer, [w], 2)
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0][REMAINDER]
    again = AdamP([w])
    again.load_state_dict(saved)
    run(again, [w], 1)
    assert REMAINDER in again.state[w]
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["compensation"] = None
    plain.load_state_dict(saved)
    assert REMAINDER not in plain.state[w]


@with_kernel
def test_state_changed_in_place_is_seen_by_the_kernel():
    w = torch.randn(8, 9, dtype=torch.bfloat16).requires_grad_()
    optimizer = AdamP([w])
    run(optimizer, [w], 2)
    optimizer.state[w][REMAINDER].untyped_storage().resize_(4)
    with pytest.raises(ValueError, match="remainder"):
        run(optimizer, [w], 1)

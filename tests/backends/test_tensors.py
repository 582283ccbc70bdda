"""What a tensor is beside address, shape and dtype: lazy bits, default devices, modes, aliases, resized storages."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tangential import SGDP, AdamP

BACKENDS = [dict(), dict(foreach=True), dict(foreach=False)]
backends = pytest.mark.parametrize("backend", BACKENDS, ids=["default", "foreach", "eager"])
RULES = {"adamp": lambda p, **kw: AdamP(p, lr=0.1, **kw), "sgdp": lambda p, **kw: SGDP(p, lr=0.1, momentum=0.9, **kw)}
rules = pytest.mark.parametrize("rule", RULES)
MOMENTS = {"adamp": ("exp_avg", "exp_avg_sq"), "sgdp": ("momentum_buffer",)}


def negated(x):
    """The same values behind a lazy negation."""
    return torch._neg_view(-x)


def conjugated(x):
    """The same values behind a lazy conjugation."""
    return x.conj().resolve_conj().conj()


LAZY = {"negative": (negated, torch.float32), "conjugate": (conjugated, torch.complex64)}


@backends
@rules
@pytest.mark.parametrize("bit", LAZY)
@pytest.mark.parametrize("which", ["weight", "gradient", "moment"])
def test_lazy_bits_change_nothing(which, bit, rule, backend):
    lazy, dtype = LAZY[bit]
    plain, given = (
        torch.linspace(-1, 2, 12).view(4, 3).to(dtype) * (1 + (1j if dtype.is_complex else 0)) for _ in "ab"
    )
    given = lazy(given) if which == "weight" else given
    ours, theirs = RULES[rule]([given], **backend), RULES[rule]([plain], foreach=False)
    for step in range(3):
        for w in (plain, given):
            w.grad = (w.detach().resolve_neg().resolve_conj() * 0.3 + step).clone()
        if which == "gradient" and step != 1:
            given.grad = lazy(given.grad)
        ours.step()
        theirs.step()
        if which == "moment" and step == 0:
            name = ours._moments[0]
            ours.state[given][name] = lazy(ours.state[given][name])
        torch.testing.assert_close(given.resolve_neg().resolve_conj(), plain, rtol=2e-6, atol=2e-7)


@backends
@rules
@pytest.mark.parametrize("blocks", ["cosine", "sticky", None])
def test_the_default_device_does_not_matter(blocks, rule, backend):
    here, there = (torch.ones(8, 5, requires_grad=True) for _ in "ab")
    a, b = (RULES[rule]([w], blocks=blocks, **backend) for w in (here, there))
    for _ in range(3):
        here.grad, there.grad = torch.ones(8, 5), torch.ones(8, 5)
        a.step()
        with torch.device("meta"):
            b.step()
    assert torch.equal(here, there)


@backends
@rules
def test_a_recorded_step_holds_the_update_and_no_step_count(rule, backend):
    w = torch.ones(3, 2)
    optimizer = RULES[rule]([w], **backend)
    w.grad = torch.ones(3, 2)
    optimizer.step()
    kept = {name: x.clone() for name, x in optimizer.state[w].items() if name != "projected"}

    def step(weight, grad, *state):
        optimizer.param_groups[0]["params"] = [weight]
        optimizer.state[weight] = dict(zip(kept, state, strict=True))
        weight.grad = grad
        optimizer.step()
        return weight.clone()

    def arguments(t):
        state = {name: x.clone() for name, x in kept.items()} | {"step": torch.tensor(float(t))}
        return torch.ones(3, 2), torch.linspace(-1, 1, 6).view(3, 2), *state.values()

    graph = make_fx(step)(*arguments(1))
    for t in (1, 100):
        torch.testing.assert_close(graph(*arguments(t)), step(*arguments(t)), rtol=1e-5, atol=1e-6)


@backends
@rules
@pytest.mark.parametrize("mode", [FakeTensorMode, torch.inference_mode])
def test_nothing_that_a_mode_made_is_kept(mode, rule, backend):
    with mode():
        w = torch.ones(7, 3)
        w.grad = torch.ones(7, 3)
        RULES[rule]([w], **backend).step()
    w = torch.ones(7, 3, requires_grad=True)
    p = w.clone()
    p.grad = torch.ones(7, 3)
    RULES[rule]([p], delta=9.0, foreach=False, differentiable=True).step()
    p.sum().backward()
    assert w.grad.isfinite().all()


@rules
@backends
def test_a_gradient_that_lies_in_another_weight_or_its_moments_is_read_before_it_is_written(backend, rule):
    for alias in (lambda w, own: w.detach(), *(lambda w, own, key=key: own[key] for key in MOMENTS[rule])):
        results = []
        for copied in (False, True):
            torch.manual_seed(0)
            params = [torch.randn(4, 6).requires_grad_() for _ in range(3)]
            optimizer = RULES[rule](params, **backend)
            for _ in range(2):
                for p in params:
                    p.grad = torch.randn(4, 6)
                if optimizer.state:
                    found = alias(params[0], optimizer.state[params[0]])
                    params[1].grad = found.clone() if copied else found
                optimizer.step()
            results.append(params)
        for p, twin in zip(*results, strict=True):
            torch.testing.assert_close(p, twin, rtol=1e-6, atol=1e-7)


@rules
@backends
@pytest.mark.parametrize("with_half", [False, True])
def test_a_gradient_that_lies_in_a_step_count_is_read_before_it_is_counted(with_half, backend, rule):
    results = []
    for copied in (False, True):
        dtypes = [torch.float32] * 2 + [torch.bfloat16] * with_half
        params = [torch.tensor(1.5, dtype=dtype).requires_grad_() for dtype in dtypes]
        optimizer = RULES[rule](params, **backend)
        for p in params:
            p.grad = torch.full_like(p, 0.3)
        optimizer.step()
        for p, other in zip(params[:2], (params[0], params[0]), strict=True):
            p.grad = optimizer.state[other]["step"].clone() if copied else optimizer.state[other]["step"]
        optimizer.step()
        results.append(params)
    for p, twin in zip(*results, strict=True):
        torch.testing.assert_close(p, twin, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_gradient_that_lies_in_its_weight_or_moments_is_read_before_it_is_written(nesterov):
    for alias in (
        lambda w, own: w.detach(),
        lambda w, own: own["exp_avg"],
        lambda w, own: w.detach().view(-1).view(4, 6),
    ):
        w, twin = (torch.linspace(-1, 2, 24).view(4, 6).requires_grad_() for _ in "ab")
        ours, theirs = AdamP([w], lr=0.1, nesterov=nesterov), AdamP([twin], lr=0.1, nesterov=nesterov)
        for p, optimizer in ((w, ours), (twin, theirs)):
            p.grad = torch.ones(4, 6)
            optimizer.step()
            p.grad = alias(p, optimizer.state[p])
        twin.grad = twin.grad.clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(w, twin, rtol=1e-6, atol=1e-7)


@backends
def test_gradients_shorter_than_their_weight_are_refused(backend):
    w = torch.ones(40, 30, requires_grad=True)
    w.grad = torch.ones(40, 30)
    optimizer = AdamP([w], **backend)
    optimizer.step()
    w.grad.data = torch.ones(2, 3)
    with pytest.raises(ValueError, match="shape"):
        optimizer.step()
    w.grad = torch.ones(40, 30)
    w.grad.untyped_storage().resize_(8)
    with pytest.raises((ValueError, RuntimeError), match="storage"):
        optimizer.step()


@backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_gradients_of_another_dtype_than_their_weight(dtype, backend):
    w, twin = (torch.ones(4, 4, requires_grad=True) for _ in "ab")
    w.grad_dtype = dtype
    w.grad, twin.grad = torch.full((4, 4), 0.5, dtype=dtype), torch.full((4, 4), 0.5)
    AdamP([w], lr=0.1, **backend).step()
    AdamP([twin], lr=0.1, **backend).step()
    torch.testing.assert_close(w, twin)


class Packed(torch.Tensor):
    """A tensor of a kind that a backend cannot read, as the quantised moments of other packages are."""


@backends
@rules
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_of_another_kind_are_refused_before_anything_moves(dtype, rule, backend):
    w = torch.randn(4, 3, dtype=dtype).requires_grad_()
    optimizer = RULES[rule]([w], **backend)
    w.grad = torch.ones_like(w)
    optimizer.step()
    key, before = MOMENTS[rule][0], w.detach().clone()
    optimizer.state[w][key] = optimizer.state[w][key].as_subclass(Packed)
    with pytest.raises(ValueError, match="a moment of the type Packed: must be a plain tensor"):
        optimizer.step()
    assert torch.equal(w, before) and optimizer.state[w]["step"] == 1

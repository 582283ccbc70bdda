"""Every backend is the same step: equal to the definition, whatever the shape, layout, precision and kind of blocks."""

import pytest
import torch

from support.step_matrix import BLOCKS, RULES, shapes_for
from support.weights import SHAPES, block_dots, float32_copies, gap, give_gradients, run, step_both, weights
from tangential import SGDP, AdamP, Blocks
from tangential.algorithm import Adam
from tangential.backends import cpu_chunks as chunks
from tangential.backends import torch_fused as native
from tangential.kernels.cpu import why_missing

in_float32 = pytest.mark.parametrize(
    "backend",
    [
        dict(foreach=False),
        dict(foreach=True),
        pytest.param(dict(fused=True), marks=pytest.mark.skipif(why_missing() is not None, reason="no kernel here")),
    ],
    ids=["eager", "foreach", "fused"],
)


@pytest.fixture(params=["foreach", "foreach-in-pieces"])
def pieces(request, monkeypatch):
    """The foreach backend as it is, and with pieces so small that every weight is cut."""
    if request.param == "foreach-in-pieces":
        monkeypatch.setattr(chunks, "PIECE", 16)


@pytest.fixture(params=["torch's fused optimizers", "plain operators"])
def operators(request, monkeypatch):
    """What walks the pieces: torch's own fused optimizers, and what is left where they are not."""
    if request.param == "plain operators":
        monkeypatch.delattr(torch, "_fused_adamw_")
        monkeypatch.delattr(torch, "_fused_sgd_")
    native._right.cache_clear()
    yield
    native._right.cache_clear()


def step_all(rule, kind, dtype=torch.float64, steps=20, layout=lambda p: p, **settings):
    cls, hyper = RULES[rule]
    params = [layout(p.detach()).requires_grad_() for p in weights(dtype, shapes_for(kind))]
    return run(cls(params, blocks=BLOCKS[kind], **hyper, **settings), params, steps)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_foreach_equals_eager(rule, kind, pieces, operators):
    assert gap(step_all(rule, kind, foreach=True), step_all(rule, kind, foreach=False)) < 1e-13


@in_float32
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_float32_equals_the_definition_to_rounding(rule, kind, backend):
    exact = step_all(rule, kind, foreach=False)
    rounded = [w.double() for w in step_all(rule, kind, torch.float32, **backend)]
    assert gap(rounded, exact) < 1e-5  # 20 steps of a few roundings of 6e-8 each


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", RULES)
def test_half_precision_is_float32_rounded_once_a_step(rule, dtype, kind, pieces):
    cls, hyper = RULES[rule]
    half = weights(dtype, shapes_for(kind))
    full = float32_copies(half)
    a, b = (cls(p, blocks=BLOCKS[kind], foreach=True, compensation=None, **hyper) for p in (half, full))
    for step in range(5):
        step_both(a, b, step)
        for p, q in zip(half, full, strict=True):
            q.data.copy_(q.data.to(dtype))
            assert torch.equal(p.float(), q)


LAYOUTS = {
    "channels-last": lambda p: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p.clone(),
    "transposed": lambda p: p.transpose(0, 1).contiguous().transpose(0, 1) if p.ndim > 1 else p.clone(),
    "strided": lambda p: torch.stack([p, p], -1)[..., 0],
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_layout_of_a_weight_does_not_matter(kind, foreach, layout, pieces):
    found = step_all("adamp", kind, layout=LAYOUTS[layout], foreach=foreach)
    assert gap(found, step_all("adamp", kind, foreach=False)) < 1e-12


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", ["channel", "layer", "heads", "transposed", "fused"])
@pytest.mark.parametrize("rule", RULES)
def test_known_blocks_have_no_radial_step(rule, kind, foreach):
    cls, hyper = RULES[rule]
    params = weights(torch.float64, shapes_for(kind))
    optimizer = cls(params, blocks=BLOCKS[kind], foreach=foreach, **{**hyper, "weight_decay": 0.0, "eps": 1e-20})
    for step in range(5):
        give_gradients(params, step)
        before = [p.detach().clone() for p in params]
        optimizer.step()
        for p, old in zip(params, before, strict=True):
            radial, whole = block_dots(BLOCKS[kind], old, p.detach() - old), block_dots(BLOCKS[kind], old, old)
            assert (radial.abs() / whole).max() < 1e-13


@pytest.mark.parametrize("foreach", [False, True])
def test_rows_outside_segments_take_the_plain_step(foreach):
    fused, plain = (weights(shapes=[(12, 5)]) for _ in range(2))
    settings = dict(lr=1e-2, weight_decay=0.1, foreach=foreach)
    a = run(AdamP(fused, blocks=Blocks(segments=((0, 8, 4),)), **settings), fused)[0]
    b = run(AdamP(plain, blocks=None, **settings), plain)[0]
    torch.testing.assert_close(a[8:], b[8:], rtol=1e-14, atol=0)
    assert (a[:8] - b[:8]).abs().max() > 1e-3


@pytest.mark.parametrize("foreach", [False, True])
def test_variant_weights_take_adamw_steps(foreach):
    ours, theirs = weights(), weights()
    a = run(AdamP(ours, blocks=None, lr=1e-2, weight_decay=0.1, foreach=foreach), ours)
    b = run(torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1), theirs)
    assert gap(a, b) < 1e-13


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", RULES)
def test_bad_gradient_reaches_only_its_own_weight(rule, poison, foreach):
    cls, hyper = RULES[rule]
    sick, well = weights(), weights()
    for params in (sick, well):
        give_gradients(params, 0)
    sick[2].grad[1, 3] = poison
    for params in (sick, well):
        cls(params, foreach=foreach, **hyper).step()
    assert not sick[2].isfinite().all()
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(sick, well, strict=True)) if i != 2)


@in_float32
@pytest.mark.parametrize("kind", ["cosine", "channel", "layer"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-20, 1e18, 1e30])
@pytest.mark.parametrize("rule", RULES)
def test_extreme_weights_stay_finite(rule, scale, kind, backend):
    cls, hyper = RULES[rule]
    params = [(w.detach() * scale).requires_grad_() for w in weights(torch.float32, shapes_for(kind))]
    assert all(w.isfinite().all() for w in run(cls(params, blocks=BLOCKS[kind], **backend, **hyper), params, 3))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_zero_gradient_leaves_only_reduced_decay(rule, foreach):
    cls, hyper = RULES[rule]
    w = weights(shapes=[(6, 7)])
    w[0].grad = torch.zeros_like(w[0])
    before = w[0].detach().clone()
    cls(w, foreach=foreach, **hyper).step()
    decay = 1e-2 * 0.1 * 0.1 / (1 - hyper.get("momentum", 0.0))
    torch.testing.assert_close(w[0].detach(), before * (1 - decay), rtol=1e-12, atol=0)


@pytest.mark.parametrize("foreach", [False, True])
def test_meta_weights_prove_that_nothing_is_read_back(foreach):
    params = [torch.empty(s, device="meta", requires_grad=True) for s in SHAPES]
    for p in params:
        p.grad = torch.empty_like(p)
    for optimizer in (AdamP(params, foreach=foreach, weight_decay=0.1), SGDP(params, foreach=foreach, momentum=0.9)):
        optimizer.step()


def test_a_fused_optimizer_that_means_something_else_is_not_used(monkeypatch):
    """It has no public name, so another torch may change what it does."""
    native._right.cache_clear()
    before = torch._fused_adamw_

    def changed(*args, eps, **settings):
        before(*args, eps=2 * eps, **settings)

    assert native._right(Adam, False, torch.float32)
    native._right.cache_clear()
    monkeypatch.setattr(torch, "_fused_adamw_", changed)
    assert not native._right(Adam, False, torch.float32)
    assert gap(step_all("adamp", "cosine", foreach=True), step_all("adamp", "cosine", foreach=False)) < 1e-13
    native._right.cache_clear()


@pytest.mark.parametrize("rule", ["adamp", "sgdp"])
def test_the_fused_optimizers_of_this_torch_are_used(rule, monkeypatch):
    """Else the step would silently take twice as long."""
    name = {"adamp": "_fused_adamw_", "sgdp": "_fused_sgd_"}[rule]
    calls, real = [], getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *args, **settings: (calls.append(name), real(*args, **settings)))
    step_all(rule, "cosine", torch.float32, steps=1, foreach=True)
    assert calls


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_lr_of_zero_moves_nothing_but_the_moments(rule, foreach):
    cls, hyper = RULES[rule]
    params = weights()
    optimizer = cls(params, foreach=foreach, **{**hyper, "lr": 0.0})
    run(optimizer, params, 2)
    assert all(torch.equal(a, b) for a, b in zip(params, weights(), strict=True))
    assert all(optimizer.state[p][cls._moments[0]].abs().sum() > 0 for p in params)


@pytest.mark.parametrize("settings", [dict(foreach=True), dict(foreach=False)], ids=["foreach", "eager"])
def test_maximize_leaves_gradients_alone_and_climbs(settings):
    up, down = weights(), weights()
    a, b = AdamP(up, lr=1e-2, maximize=True, **settings), AdamP(down, lr=1e-2, **settings)
    for step in range(3):
        give_gradients(up, step)
        give_gradients(down, step)
        for p in down:
            p.grad.neg_()
        kept = [p.grad.clone() for p in up]
        a.step()
        b.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(up, kept, strict=True))
    assert gap([p.detach() for p in up], [p.detach() for p in down]) < 1e-14

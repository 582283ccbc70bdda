"""The kernel beside the definition: the same weights, gradients and moments, stepped in float64."""

import torch

from support.step_matrix import BLOCKS, RULES, fits
from support.weights import give_gradients, tangent, weights
from tangential.backends import DECISION, VOTES

SPACING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
LARGE = [(3, 70_000), (40_000, 3), (200, 300), (12, 3000), (2, 40, 3, 3), (1, 9), (64, 16), (100, 64), (7,), (70_000,)]
LARGE_FITS = {"heads": [(200, 300), (40_000, 3)], "fused": [(200, 300), (9, 70_000)]}


def large_for(kind):
    return LARGE_FITS.get(kind) or [s for s in LARGE if fits(kind, s)]


def exact_twin(optimizer, params):
    """The definition in float64, at the same weights, gradients and moments as an optimizer."""
    twins = [p.detach().double().requires_grad_() for p in params]
    group = {k: v for k, v in optimizer.param_groups[0].items() if k in optimizer.defaults}
    twin = type(optimizer)(twins, **{**group, "foreach": False, "fused": None})
    for p, q in zip(params, twins, strict=True):
        q.grad = p.grad.double()
        if p in optimizer.state:
            twin.state[q] = {k: v.double() for k, v in optimizer.state[p].items() if k not in (DECISION, VOTES)}
            twin.state[q].update({k: v.clone() for k, v in optimizer.state[p].items() if k in ("step", VOTES)})
    return twin, twins


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


def decided(make):
    """A stepped optimizer and four weights that it should project by channel, not at all, as a whole, and never ask."""
    params = weights(torch.float32, [(8, 30), (8, 30), (8, 30), (8,)])
    optimizer = make(params)
    give_gradients(params, 0)
    params[0].grad = tangent(params[0], params[0].grad)
    params[1].grad = params[1].detach().clone()
    whole = params[2].detach().flatten()[None]
    params[2].grad = tangent(whole, torch.randn(1, 240)).view(8, 30)
    optimizer.step()
    return optimizer, params


def check_odd_row(rule, kind, shapes, where, poison):
    """Two steps of kernel and definition, the second with an odd value in a row of each weight or gradient."""
    cls, hyper = RULES[rule]
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

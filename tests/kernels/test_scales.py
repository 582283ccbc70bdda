"""Weights and steps of every scale: the kernel moves nothing before the decision that a repair could not put right."""

import pytest
import torch

from support.weights import gradient_passing, row_error
from tangential import SGDP, AdamP
from tangential.backends import DECISION
from tangential.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")

SPACING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
SCALES = {dtype: (1e-12, 1e-4, 1.0, 1e12) for dtype in SPACING} | {torch.float16: (1e-2, 1.0, 1e2)}
STEPS = {dtype: (1e-12, 1e-3, 1.0, 1e12) for dtype in SPACING} | {torch.float16: (1e-3, 1.0)}
RULES = {"adamp": (AdamP, {}), "sgdp": (SGDP, dict(momentum=0.9))}
SHAPES = [(16, 27), (8, 300), (3, 2000), (2, 17_000)]


@pytest.mark.parametrize("kind", ["channel", "layer", "neither"])
@pytest.mark.parametrize("dtype", SPACING)
@pytest.mark.parametrize("rule", RULES)
def test_steps_of_every_scale_equal_the_definition(rule, dtype, kind):
    cls, settings = RULES[rule]
    for scale in SCALES[dtype]:
        for lr in STEPS[dtype]:
            for shape in SHAPES[:: 3 if dtype != torch.float32 else 1]:
                p = (torch.randn(shape, dtype=torch.float64) * scale).to(dtype).requires_grad_()
                optimizer = cls([p], lr=lr, eps=1e-30, fused=True, **settings)
                for _ in range(2):
                    d = p.detach().double().requires_grad_()
                    p.grad = gradient_passing(d.detach(), kind).to(dtype)
                    d.grad = p.grad.double()
                    twin = cls([d], lr=lr, eps=1e-30, foreach=False, **settings)
                    twin.state[d] = {k: v.double() for k, v in optimizer.state.get(p, {}).items() if k != DECISION}
                    optimizer.step()
                    twin.step()
                    if not d.detach().to(dtype).isfinite().all():
                        break
                    allowed = 8 + shape[1] ** 0.5 / 8  # the second part is what adding up a row in float32 loses
                    assert row_error(p, d) < allowed * SPACING[dtype], (scale, lr, shape)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("jump", [1e-8, 1e8])
def test_a_sudden_change_of_scale_is_noticed(rule, jump):
    """The first row of a piece is summed before the others are moved, so the prediction is not trusted then."""
    cls, settings = RULES[rule]
    p = torch.randn(64, 300).requires_grad_()
    optimizer = cls([p], lr=1e-3, eps=1e-30, fused=True, **settings)
    for step in range(4):
        if step == 2:
            p.data.mul_(jump)
        d = p.detach().double().requires_grad_()
        p.grad = gradient_passing(d.detach(), "neither" if step < 2 else "channel").float()
        d.grad = p.grad.double()
        twin = cls([d], lr=1e-3, eps=1e-30, foreach=False, **settings)
        twin.state[d] = {k: v.double() for k, v in optimizer.state.get(p, {}).items() if k != DECISION}
        optimizer.step()
        twin.step()
        assert row_error(p, d) < 16 * SPACING[torch.float32]

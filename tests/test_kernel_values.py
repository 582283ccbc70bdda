"""Denormals, infinities and NaN do to a weight in the kernel what they do in the definition, and to no other weight."""

import pytest
import torch

from tangential import AdamP
from tangential.kernels import cpu
from test_backends import BLOCKS, RULES
from weights import give_gradients, weights

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")

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

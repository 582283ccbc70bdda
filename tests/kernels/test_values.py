"""Denormals, infinities and NaN do to a weight in the kernel what they do in the definition, and to no other weight."""

import pytest
import torch

from support.step_matrix import RULES
from support.twins import check_odd_row
from support.weights import give_gradients, weights
from tangential import AdamP
from tangential.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")

POISON = [0.0, -0.0, 1e-45, -1e-40, 1e-30, 1e30, -3e38, float("inf"), float("-inf"), float("nan")]


@pytest.mark.slow
@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("where", ["weight", "grad"])
@pytest.mark.parametrize("kind", ["cosine", "none", "channel", "layer"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:overflow")
def test_one_odd_row_does_to_a_weight_what_the_definition_does(rule, kind, where, poison):
    check_odd_row(rule, kind, [(8, 27), (6, 70), (8, 3), (3, 20_000)], where, poison)


def test_odd_values_reach_only_their_own_weight():
    sick, well = weights(torch.float32), weights(torch.float32)
    for params in (sick, well):
        give_gradients(params, 0)
    sick[2].grad[1, 3] = float("nan")
    for params in (sick, well):
        AdamP(params, fused=True).step()
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(sick, well, strict=True)) if i != 2)

"""Two spellings of one function get one verdict, and a verdict that rests on a shrunk epsilon says so."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import functional

from tangential import Blocks
from tangential.invariances import find_invariances


class Applied(nn.Module):
    """A linear layer, a function of the module and of what the layer returns, a head that is not homogeneous."""

    def __init__(self, function, eps):
        super().__init__()
        self.linear = nn.Linear(12, 8, bias=False)
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(8, 5))
        self.function = function
        self.eps = self.tiny = eps
        self.register_buffer("constant", torch.tensor(eps))

    def forward(self, x):
        return self.head(self.function(self, self.linear(x)))


SPELLINGS = {
    "number": lambda net, v, c: v + c,
    "number first": lambda net, v, c: c + v,
    "method": lambda net, v, c: v.add(c),
    "function": lambda net, v, c: torch.add(v, c),
    "keyword": lambda net, v, c: torch.add(v, other=c),
    "in place": lambda net, v, c: v.clone().add_(c),
    "augmented": lambda net, v, c: augmented(v.clone(), c),
    "subtraction of a negative": lambda net, v, c: v - (-c),
    "alpha": lambda net, v, c: torch.add(v, 1.0, alpha=c),
    "tensor": lambda net, v, c: v + torch.tensor(c),
    "tensor of its shape": lambda net, v, c: v + torch.full_like(v, c),
    "double": lambda net, v, c: v + torch.tensor(c, dtype=torch.float64),
    "buffer": lambda net, v, c: v + net.constant,
    "attribute that is named like one": lambda net, v, c: v + net.eps,
    "attribute that is not": lambda net, v, c: v + net.tiny,
    "operator": lambda net, v, c: torch.ops.aten.add.Tensor(v, c),
}


def augmented(v, c):
    v += c
    return v


def verdict(function, eps, scale=1.0):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return find_invariances(Applied(function, eps), torch.randn(6, 12) * scale).verdict("linear.weight")


ROOTS = {
    "mean of squares": (lambda net, y, add: y * torch.rsqrt(add(y.pow(2).mean(-1, keepdim=True))), 1e-6),
    "squares": (lambda net, y, add: y * torch.rsqrt(add(y.pow(2)).mean(-1, keepdim=True)), 1e-5),
    "variance": (lambda net, y, add: (y - y.mean(-1, keepdim=True)) / add(y.var(-1, keepdim=True)).sqrt(), 1e-3),
    "large": (lambda net, y, add: y * torch.rsqrt(add(y.pow(2).mean(-1, keepdim=True))), 0.01),
    "norm": (lambda net, y, add: y / add(y.norm(dim=-1, keepdim=True)), 1e-7),
}
SHIFTS = {
    "before relu": (lambda net, y, add: F.rms_norm(F.relu(add(y)), (8,)), 1e-3),
    "before gelu's relative": (lambda net, y, add: F.rms_norm(F.leaky_relu(add(y), 0.3), (8,)), 5e-4),
    "before a norm": (lambda net, y, add: F.rms_norm(add(y), (8,)), 1e-3),
    "after relu": (lambda net, y, add: F.rms_norm(add(F.relu(y)), (8,)), 1e-3),
    "large": (lambda net, y, add: F.rms_norm(F.relu(add(y)), (8,)), 0.04),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("law", ROOTS)
def test_an_epsilon_is_one_however_it_is_spelled(law, spelling):
    function, eps = ROOTS[law]
    found = verdict(lambda net, y: function(net, y, lambda v: SPELLINGS[spelling](net, v, eps)), eps)
    assert found.blocks == Blocks(size=None), found


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("law", SHIFTS)
def test_a_shift_is_none_however_it_is_spelled(law, spelling):
    function, shift = SHIFTS[law]
    found = verdict(lambda net, y: function(net, y, lambda v: SPELLINGS[spelling](net, v, shift)), shift)
    assert (found.blocks, found.kind in ("none", "near")) == (None, True), found


@pytest.mark.parametrize("shift", [1e-4, 1e-3, 1e-2])
def test_what_is_called_invariant_stays_when_the_real_function_is_rescaled(shift):
    def function(net, y):
        return F.rms_norm(F.relu(y + shift), (8,), eps=1e-12)

    net = Applied(function, shift).double()
    x = torch.randn(6, 12, dtype=torch.float64)
    found = find_invariances(net, x)
    with torch.no_grad():
        before = net(x)
        net.linear.weight.mul_(4)
        moved = float((net(x) - before).norm() / before.norm())
    assert (found["linear.weight"] is None) == (moved > 1e-6)


NORMS = {
    "module": lambda eps: nn.LayerNorm(8, eps=eps, elementwise_affine=False),
    "function": lambda eps: Function(lambda y: functional.layer_norm(y, (8,), eps=eps)),
    "operator": lambda eps: Function(lambda y: torch.ops.aten.layer_norm.default(y, [8], None, None, eps)),
    "operator by keyword": lambda eps: Function(lambda y: torch.ops.aten.layer_norm(y, [8], eps=eps)),
    "by hand": lambda eps: Function(
        lambda y: (y - y.mean(-1, keepdim=True)) * torch.rsqrt(y.var(-1, keepdim=True, unbiased=False) + eps)
    ),
}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.02])
@pytest.mark.parametrize("spelling", NORMS)
def test_a_normalisation_is_one_however_it_is_spelled(spelling, eps):
    model = nn.Sequential(nn.Linear(12, 8, bias=False), NORMS[spelling](eps), nn.Tanh(), nn.Linear(8, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_invariances(model, torch.randn(6, 12))
    assert found["0.weight"] == Blocks(size=None)
    assert "invariant up to an epsilon" in found.explain("0.weight")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.10's own
def test_an_exported_graph_gets_the_verdict_of_its_module():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(4, 8)
    exported = torch.export.export(model, (x,)).module()
    assert find_invariances(exported, x)["0.weight"] == find_invariances(model, x)["0.weight"] == Blocks(size=None)


def test_a_verdict_without_epsilons_does_not_speak_of_them():
    model = nn.Sequential(nn.Linear(12, 8, bias=False), Function(lambda y: y / y.norm(dim=-1, keepdim=True)))
    assert "up to an epsilon" not in find_invariances(model, torch.randn(6, 12)).explain("0.weight")

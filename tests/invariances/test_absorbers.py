"""Explaining never fails an analysis: what cannot be summed has no explanation, and the answer stands."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tangential import Blocks
from tangential.invariances import find_invariances

SIDES = {
    "sparse csr": lambda x: torch.eye(len(x)).to_sparse_csr() @ x,
    "sparse csc": lambda x: torch.eye(len(x)).to_sparse_csc() @ x,
    "sparse coo": lambda x: torch.sparse.mm(torch.eye(len(x)).to_sparse(), x),
    "vmap": lambda x: torch.func.vmap(torch.func.grad(lambda row: (row**2).sum()))(x),
    "jacrev": lambda x: torch.func.jacrev(torch.sin)(x[0]).sum(0),
    "jacfwd": lambda x: torch.func.jacfwd(torch.sin)(x[0]).sum(0),
    "jvp": lambda x: torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),))[1],
    "vmap of randomness": lambda x: torch.func.vmap(lambda row: row * torch.rand(4), randomness="different")(x),
    "nested, jagged": lambda x: x * torch.nested.nested_tensor([x[:3], x[3:]], layout=torch.jagged).values().shape[0],
    "nested, strided": lambda x: torch.nested.nested_tensor([x[:3], x[3:]]).to_padded_tensor(0.0)[0, 0],
    "meta": lambda x: x * torch.empty(3, device="meta").shape[0],
    "float8": lambda x: x.detach().float().to(torch.float8_e4m3fn).to(x.dtype),
    "float8, the other": lambda x: x.detach().float().to(torch.float8_e5m2).float(),
    "quantised": lambda x: torch.quantize_per_tensor(x.detach().float().cpu(), 0.1, 0, torch.qint8).int_repr() * 0.1,
    "integers": lambda x: (x * 10).round().long() % 3,
    "booleans": lambda x: (x > 0).to(x),
    "complex": lambda x: torch.fft.ifft(torch.fft.fft(x)).real,
    "conjugate": lambda x: (torch.fft.fft(x).conj() * 2).real,
    "empty": lambda x: x + x[:0].sum(),
    "infinite": lambda x: torch.where(x.isfinite(), x, x / 0.0),
}


class Side(nn.Module):
    """A linear layer before a normalisation, with something beside its input."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.norm, self.function = nn.Linear(4, 6, bias=False), nn.LayerNorm(6), function

    def forward(self, x):
        return self.norm(self.linear(x + self.function(x)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", SIDES)
def test_an_intermediate_that_cannot_be_summed_leaves_the_verdict(side):
    torch.manual_seed(0)
    found = find_invariances(Side(SIDES[side]), torch.randn(8, 4))
    assert found["linear.weight"] == Blocks(size=None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", ["vmap", "jacrev", "sparse csr", "meta"])
def test_the_explanation_is_still_found_beside_it(side):
    torch.manual_seed(0)
    (absorber,) = find_invariances(Side(SIDES[side]), torch.randn(8, 4)).verdict("linear.weight").absorbers
    assert (absorber.module, absorber.op) == ("norm", "layer_norm")


def test_an_intermediate_after_the_weight_may_be_unsummable_too():
    class After(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 6, bias=False)

        def forward(self, x):
            rows = torch.func.vmap(lambda row: F.rms_norm(row, (6,)))(self.linear(x))
            return rows.tanh()

    assert find_invariances(After(), torch.randn(8, 4))["linear.weight"] == Blocks(size=None)


@pytest.mark.filterwarnings("ignore")
def test_scripted_functions_inside_a_model_are_run():
    class Scripted(Side):
        def __init__(self):
            super().__init__(torch.sin)
            self.act = torch.jit.script(nn.Tanh())

        def forward(self, x):
            return self.act(super().forward(x))

    assert find_invariances(Scripted(), torch.randn(8, 4))["linear.weight"] == Blocks(size=None)

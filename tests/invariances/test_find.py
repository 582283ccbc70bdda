"""What changes the answer, and what it says of random routes, epsilons and reasons; edge cases have the theory."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from support.edge_nets import Residual, Wrapped, pictures, small
from support.zoo import GPT, tokens
from tangential import Blocks
from tangential.invariances import find_invariances
from tangential.invariances.rescaling import same_outputs

# What a change of the model does to the answer.


def test_convolution_before_batch_norm_is_invariant_by_channel():
    assert find_invariances(small(), pictures())["0.weight"] == Blocks()


def test_batch_norm_in_evaluation_mode_breaks_invariance():
    model = small()
    model[1].eval()
    assert find_invariances(model, pictures())["0.weight"] is None


def test_bias_added_after_the_convolution_and_before_relu_breaks_invariance():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), *small()[1:])
    assert find_invariances(model, pictures())["0.weight"] == Blocks()
    model[0].bias = nn.Parameter(torch.zeros(8))
    assert find_invariances(model, pictures())["0.weight"] is None


def test_relu6_in_between_breaks_invariance_and_the_reason_says_so():
    found = find_invariances(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU6(), *small()[1:]), pictures())
    assert found["0.weight"] is None
    assert "large ones change the outputs" in found.verdict("0.weight").reason


def test_blocks_that_only_small_changes_of_scale_spare_are_rejected():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.head = nn.Linear(12, 8, bias=False), nn.Linear(8, 3)

        def forward(self, x):
            clipped, free = self.linear(x).chunk(2, -1)
            return self.head(torch.cat([F.rms_norm(F.relu6(clipped), (4,)), free.tanh()], -1))

    verdict = find_invariances(Clipped(), torch.randn(6, 12)).verdict("linear.weight")
    assert verdict.blocks is None
    assert verdict.reason.startswith("1 block of 4 (4/8 rows) for small changes")


def test_gradients_that_say_nothing_are_inconclusive():
    silent = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(silent[0].bias, -1e3)
    found = find_invariances(silent, torch.randn(6, 12))
    assert "No gradient reaches it" in found.explain("0.weight")
    infinite = nn.Sequential(nn.Linear(12, 8), Function(lambda x: (x - x).sqrt() + x), nn.Linear(8, 3))
    found = find_invariances(infinite, torch.randn(6, 12))
    assert "Its gradient is not finite" in found.explain("0.weight")
    assert found.verdict("2.weight").kind == "none"


def test_a_whole_that_is_invariant_is_cut_into_its_invariant_heads():
    class Interleaved(nn.Module):
        """Linear attention whose normalised queries, keys and plain values lie side by side for each head."""

        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(12, 3 * 14, bias=False)
            self.head = nn.Sequential(nn.Tanh(), nn.Linear(18, 5))

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (3, 14)).split([4, 4, 6], -1)
            mixed = torch.einsum("bthd,bshd,bshe->bthe", F.normalize(q, dim=-1), F.normalize(k, dim=-1), v)
            return self.head(F.rms_norm(mixed.flatten(2), (18,)))

    found = find_invariances(Interleaved(), torch.randn(3, 7, 12))
    assert found["qkv.weight"] == Blocks(segments=((0, 8, 4), (14, 22, 4), (28, 36, 4)))


def test_weight_norm_over_kernel_positions_is_cut_along_dimension_2():
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(3, 4, 5), dim=2), nn.Tanh(), nn.Conv1d(4, 2, 3))
    assert find_invariances(model, torch.randn(2, 3, 12))["0.parametrizations.weight.original1"] == Blocks(dim=2)


def test_complex_weights_are_read_as_pairs_of_real_ones():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 12, dtype=torch.complex64))
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            y = x.to(torch.complex64) @ self.weight.t()
            return self.head(torch.tanh((y / y.abs().norm(dim=-1, keepdim=True)).abs()))

    assert find_invariances(Spectrum(), torch.randn(6, 12))["weight"] == Blocks(size=None)


# Routes that change from run to run.


@pytest.mark.parametrize("source", [lambda: float(torch.rand(())), random.random, lambda: np.random.rand()])
def test_layers_dropped_at_random_are_judged_by_the_runs_that_use_them(source):
    found = find_invariances(Residual(source), torch.randn(6, 12))
    assert [found[f"branches.{i}.0.weight"] for i in range(6)] == [Blocks(size=None)] * 6
    assert all(found.verdict(f"branches.{i}.0.weight").absorbers for i in range(6))


def test_layers_dropped_in_the_last_run_are_rescaled_too():
    found = find_invariances(Residual(lambda: float(torch.rand(())), activation=nn.ReLU6), torch.randn(6, 12))
    assert [found[f"branches.{i}.0.weight"] for i in range(6)] == [None] * 6


def test_a_weight_in_and_out_of_a_checkpoint_adds_up():
    def run(net, x):
        return net(x) + checkpoint(net, x.requires_grad_() * 2, use_reentrant=True)

    assert find_invariances(Wrapped(run), pictures())["net.0.weight"] == Blocks()


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_nothing(reentrant):
    model = Wrapped(lambda net, x: checkpoint(net, x.requires_grad_(), use_reentrant=reentrant))
    assert find_invariances(model, pictures())["net.0.weight"] == Blocks()


# Epsilons and near misses.


def out_of_reach(function):
    """The function as a kernel of its own would compute it: no torch function in it can be seen from outside."""

    def run(*args):
        with torch._C.DisableTorchFunction():
            return function(*args)

    return run


def test_an_epsilon_that_rules_is_warned_of():
    with pytest.warns(UserWarning, match=r"1 of the scale-invariant weights .*: 0\.weight"):
        found = find_invariances(small(eps=0.05), pictures() * 0.05)
    assert found["0.weight"] == Blocks()
    assert "blocks exceed" in found.explain("0.weight")


def test_an_epsilon_out_of_reach_is_near_and_never_projected():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.head = nn.Linear(12, 8, bias=False), nn.Sequential(nn.Tanh(), nn.Linear(8, 5))

        def forward(self, x):
            return self.head(
                out_of_reach(lambda y: y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6))(self.linear(x))
            )

    verdict = find_invariances(Hidden(), torch.randn(6, 12)).verdict("linear.weight")
    assert (verdict.kind, verdict.blocks) == ("near", None)
    assert "probably an epsilon" in verdict.reason


def test_an_epsilon_beside_a_norm_fades_with_the_scale():
    divide = out_of_reach(lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-7))
    model = nn.Sequential(nn.Linear(12, 8, bias=False), Function(divide), nn.Tanh(), nn.Linear(8, 5))
    verdict = find_invariances(model, torch.randn(6, 12)).verdict("0.weight")
    assert verdict.kind == "near"
    assert "fades with the scale" in verdict.reason


@pytest.mark.parametrize("norm", [torch.layer_norm, F.layer_norm])
@pytest.mark.parametrize("eps", [(), (None, None, 1e-2)])
def test_epsilons_of_functions_are_shrunk_however_they_are_given(norm, eps):
    normalise = Function(lambda x: norm(x, (8,), *eps))
    model = nn.Sequential(nn.Linear(12, 8, bias=False), normalise, nn.Tanh(), nn.Linear(8, 5))
    assert find_invariances(model, torch.randn(6, 12) * 30)["0.weight"] == Blocks(size=None)


def test_float32_inside_a_custom_function_is_near():
    class Low(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy((x.detach().numpy() / np.abs(x.detach().numpy()).max()).astype("f4")).double()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                y = x / x.abs().amax()
                (back,) = torch.autograd.grad(y, x, torch.from_numpy(grad.numpy().astype("f4")).double())
            return torch.from_numpy(back.numpy().astype("f4")).double()

    model = nn.Sequential(nn.Linear(12, 8, bias=False), Function(Low.apply), nn.Tanh(), nn.Linear(8, 5))
    verdict = find_invariances(model, torch.randn(6, 12)).verdict("0.weight")
    assert verdict.kind == "near"
    assert "float32" in verdict.reason


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_evaluation_mode_is_analysed_as_training_and_warned_of():
    with pytest.warns(UserWarning, match="evaluation mode"):
        found = find_invariances(small().eval(), pictures())
    assert found["0.weight"] == Blocks()


# Where the scale goes.


def test_the_reason_names_the_module_that_absorbs_the_scale():
    found = find_invariances(small(), pictures())
    assert "absorbed by 1 (BatchNorm2d, batch_norm)" in found.explain("0.weight")


def test_a_run_that_takes_another_way_is_not_explained():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.head = nn.Linear(12, 8, bias=False), nn.Linear(8, 3)
            self.start = self.linear.weight.detach().norm() * 1.5

        def forward(self, x):
            y = self.linear(x)
            y = y.mul(1.0) if self.linear.weight.norm() > self.start else y.add(0.0)
            return self.head(F.rms_norm(y, (8,)).tanh())

    verdict = find_invariances(Branching(), torch.randn(6, 12)).verdict("linear.weight")
    assert (verdict.blocks, verdict.absorbers) == (Blocks(size=None), ())


def test_outputs_are_the_same_if_they_are_as_many_as_large_and_finite():
    one = torch.ones(3)
    assert same_outputs([one, one], [one, one * (1 + 1e-8)])
    assert not same_outputs([one], [one, one])
    assert not same_outputs([one], [torch.ones(4)])
    assert not same_outputs([one], [one * torch.inf])


def test_a_fused_projection_names_its_own_norms_only():
    found = find_invariances(GPT(fused=True), tokens())
    modules = {absorber.module for absorber in found.verdict("layers.0.attention.qkv.weight").absorbers}
    assert modules == {"layers.0.attention.qn", "layers.0.attention.kn"}

"""Finite rescaling: which weights are rejected when some of them can only be rescaled apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tangential import Blocks
from tangential.invariances import find_invariances
from tangential.invariances.rescaling import Rescaling

WHOLE = Blocks(size=None)


def linear(width=12):
    return nn.Linear(width, 12, bias=False)


CLIPS = {
    "hard tanh": lambda bound: nn.Hardtanh(-bound, bound),
    "soft shrink": lambda bound: nn.Softshrink(1 / bound),
    "hard shrink": lambda bound: nn.Hardshrink(1 / bound),
    "threshold": lambda bound: nn.Threshold(1 / bound, 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("bits", [6, 8, 10, 12])
@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("others", [0, 3])
def test_weights_that_reach_a_clip_together_are_all_rejected(clip, bits, layers, others):
    if clip != "hard tanh" and bits > 8:
        pytest.skip("the weights are scaled down less")
    torch.manual_seed(0)
    chain = [linear() for _ in range(layers)]
    free = [module for _ in range(others) for module in (linear(), nn.LayerNorm(12), nn.Tanh())]
    model = nn.Sequential(*chain, CLIPS[clip](2.0**bits), nn.LayerNorm(12), nn.Tanh(), *free, nn.Linear(12, 3))
    found = find_invariances(model, torch.randn(9, 12))
    assert [found[f"{i}.weight"] for i in range(layers)] == [None] * layers
    later = [name for name in found if name.endswith(".weight") and found.verdict(name).shape == (12, 12)][layers:]
    assert [found[name] for name in later] == [WHOLE] * others


@pytest.mark.filterwarnings("ignore:find_invariances. .*epsilon")  # twenty layers leave little of their input
@pytest.mark.parametrize("layers", [2, 5, 20, 40])
@pytest.mark.parametrize("activation", [nn.Identity, nn.ReLU])
def test_long_chains_before_a_norm_are_invariant_as_wholes(layers, activation):
    torch.manual_seed(0)
    chain = [module for _ in range(layers) for module in (linear(), activation())]
    for module in chain[::2]:
        nn.init.orthogonal_(module.weight)
    model = nn.Sequential(*chain, nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, 3))
    found = find_invariances(model, torch.randn(9, 12))
    assert [found[f"{2 * i}.weight"] for i in range(layers)] == [WHOLE] * layers


class Oracle(Rescaling):
    """A rescaling whose outcome is decided by sets of names."""

    def __init__(self, conflicts):
        self.conflicts = [set(names) for names in conflicts]
        self.asked = 0
        self._runs_left = 10_000

    def _holds(self, names, cuts, exponents):
        self.asked += 1
        return not any(conflict <= set(names) for conflict in self.conflicts)


@pytest.mark.parametrize(
    "conflicts",
    [
        [],
        ["a"],
        ["ab"],
        ["ab", "cd"],
        ["ah"],
        ["abc"],
        ["a", "bc"],
        ["ab", "bc", "ca"],
        ["aceg", "b"],
        ["abcdefgh"],
        ["ah", "bg", "cf", "de"],
    ],
)
def test_the_rest_passes_and_only_members_of_conflicts_are_rejected(conflicts):
    oracle = Oracle(conflicts)
    wrong = oracle._refuted(list("abcdefgh"), {}, (1, 8))
    rest = set("abcdefgh") - wrong
    assert not any(set(conflict) <= rest for conflict in conflicts)
    assert wrong <= set().union(*map(set, conflicts))


def test_one_wrong_weight_among_many_takes_few_runs():
    oracle = Oracle(["n37"])
    oracle.conflicts = [{"n37"}]
    assert oracle._refuted([f"n{i}" for i in range(128)], {}, (1, 8)) == {"n37"}
    assert oracle.asked <= 20

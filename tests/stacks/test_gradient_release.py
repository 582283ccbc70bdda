"""Optimizers stepped in the backward pass take the steps of one optimizer, and hold one gradient at a time."""

import re
import subprocess
import sys

import pytest
from torch.nn.functional import cross_entropy

from support.optimizer_makers import MAKERS, every
from support.paths import ROOT
from support.stacks import stacks
from tangential import find_invariances

problem = stacks.example("problem")


def released(groups, maker):
    """The recipe of the example, with any optimizer."""
    optimizers = {
        p: maker([{**g, "params": [p], "param_names": [name]}])
        for g in groups
        for name, p in zip(g["param_names"], g["params"], strict=True)
    }
    for p in optimizers:
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step() or optimizers[p].zero_grad())
    return optimizers


@every
@pytest.mark.parametrize("blocks", ["detected", "cosine"])
def test_steps_are_those_of_one_optimizer(name, blocks):
    model, twin = problem.net(), problem.net()
    for each, in_backward in ((model, True), (twin, False)):
        groups = find_invariances(each, problem.images[:8]).param_groups(weight_decay=0.1)
        groups = groups if blocks == "detected" else [{**group, "blocks": "cosine"} for group in groups]
        optimizer = released(groups, MAKERS[name]) if in_backward else MAKERS[name](groups)
        for x, y in problem.loader():
            cross_entropy(each(x), y).backward()
            if not in_backward:
                optimizer.step()
                optimizer.zero_grad()
    assert stacks.worst(model, twin) == 0
    assert stacks.worst(model, problem.net()) > 0
    assert all(p.grad is None for p in model.parameters())


@every
def test_one_gradient_is_there_at_a_time(name):
    model, most = problem.net(), 0
    released(find_invariances(model, problem.images[:8]).param_groups(), MAKERS[name])

    def count(_):
        nonlocal most
        most = max(most, sum(p.grad is not None for p in model.parameters()))

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(count)  # runs after the step of this parameter
    cross_entropy(model(problem.images), problem.labels).backward()
    assert most == 0, "a gradient was left after its step"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_the_peak_of_memory_is_lower_by_the_gradients():
    command = [sys.executable, str(ROOT / "benchmarks" / "gradient_release.py"), "--quick"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    one, released = map(float, re.findall(r"([\d.]+) times the weights", told))
    assert 3 < one < 4, "gradients and two moments"
    assert 0.7 < one - released < 1.1, "all gradients but one of ten"

"""Where the time of a fused step goes: Python and the kernel's phases, by the length of a weight's rows.

    python benchmarks/profile_step.py

One thread, CPU time, as ratios to torch's fused step of the same weight within a round (medians). The columns add a
phase each: `none` is the update alone, `not` adds the test's sums, `fires` adds waiting for the factor of each row,
`wrong` is `not` with every guess wrong, so it adds the repair. The last column is what Python does before the kernel
is called, in microseconds per parameter, measured on 160 small weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from networks import give_gradients
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential.backends import DECISION

ELEMENTS, ROUNDS, STILL = 3_000_000, 15, 1e-10
LENGTHS = (9, 64, 256, 576, 1152, 4608, 20_000)
PHASES = {"none": None, "not": "cosine", "fires": "cosine", "wrong": "cosine"}
FAMILIES = {"AdamP": (AdamP, AdamW, {}), "SGDP": (SGDP, SGD, {"momentum": 0.9})}


def seconds(step: Callable[[], object]) -> float:
    """CPU time of a call."""
    start = time.process_time()
    step()
    return time.process_time() - start


def ratios(family: str, length: int) -> dict[str, float]:
    """The time of a step with each phase, over that of torch's fused one."""
    ours, theirs, settings = FAMILIES[family]
    w = nn.Parameter(torch.randn(ELEMENTS // length, length) * 0.02)
    steps: dict[str, Optimizer] = {
        name: ours([w], STILL, blocks=b, fused=True, **settings) for name, b in PHASES.items()
    }
    steps["torch"] = theirs([w], STILL, fused=True, **settings)
    grads = {}
    for fires in (True, False):
        give_gradients([w], fires)
        grads[fires] = w.grad
    found: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        found.append({})
        for name, optimizer in steps.items():
            w.grad = grads[name == "fires"]
            if name == "wrong" and optimizer.state:
                optimizer.state[w][DECISION].fill_(1)
            found[-1][name] = seconds(optimizer.step)
    return {name: statistics.median(r[name] / r["torch"] for r in found[2:]) for name in PHASES}


def python_microseconds(family: str) -> float:
    """What a step costs per parameter where there is nothing to compute."""
    ours, _, settings = FAMILIES[family]
    small = [nn.Parameter(torch.randn(2, 2)) for _ in range(160)]
    give_gradients(small, True)
    optimizer = ours(small, STILL, **settings)
    return statistics.median(seconds(optimizer.step) for _ in range(300)) / len(small) * 1e6


def main() -> None:
    """Print one table per family."""
    torch.set_num_threads(1)
    for family in FAMILIES:
        print(f"\n| {family}, rows of | {' | '.join(PHASES)} |\n|{' --- |' * (len(PHASES) + 1)}")
        for length in LENGTHS:
            print(f"| {length} | {' | '.join(f'{x:.2f}' for x in ratios(family, length).values())} |", flush=True)
        print(f"\nPython: {python_microseconds(family):.1f} us per parameter")


if __name__ == "__main__":
    main()

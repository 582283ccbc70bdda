"""Peak memory of training with one optimizer, and with one per parameter that is stepped in the backward pass.

    python benchmarks/gradient_release.py            24 matrices of 1024 x 1024
    python benchmarks/gradient_release.py --quick    a tenth of it, to see that it runs

Each way runs in a process of its own, whose memory allocator gives freed memory back at once, so that what was used
once is not taken for what is needed. The peak is the process's largest resident set during the steps, less the one
before the first: gradients, moments and what a step makes beside them. It is told in multiples of the weights, which
are far more than activations here. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

WAYS = ("one optimizer", "released")
STEPS = 3
RETURNED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}


def resident(entry: str) -> int:
    """Bytes of this process: its resident set now (`VmRSS`), or the largest so far (`VmHWM`)."""
    found = re.search(rf"{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "only Linux says it there"
    return 1024 * int(found[1])


def peak(way: str, layers: int, width: int) -> float:
    """Peak of some steps above the resident set before them, relative to the weights."""
    import torch
    from torch import nn

    from tangential import AdamP

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    x = torch.randn(4, width)
    model(x).sum().backward()  # what the first backward pass sets up is no part of a step
    model.zero_grad()
    optimizer = None
    if way == "released":
        optimizers = {p: AdamP([p], lr=1e-3) for p in model.parameters()}
        for p in optimizers:
            p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step() or optimizers[p].zero_grad())
    else:
        optimizer = AdamP(model.parameters(), lr=1e-3)
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident set is the present one
    before = resident("VmRSS")
    for _ in range(STEPS):
        model(x).square().mean().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    return (resident("VmHWM") - before) / (4 * layers * width**2)


def measured(way: str, layers: int, width: int) -> float:
    """The same in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", way, str(layers), str(width)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=os.environ | RETURNED_AT_ONCE)
    return float(done.stdout)


def compared(layers: int, width: int) -> dict[str, float]:
    """The peak of each way."""
    return {way: measured(way, layers, width) for way in WAYS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "LAYERS", "WIDTH"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(peak(wanted.one[0], *map(int, wanted.one[1:])))
        return
    found = compared(layers=10, width=512) if wanted.quick else compared(layers=24, width=1024)
    for way, times in found.items():
        print(f"{way}: {times:.2f} times the weights")


if __name__ == "__main__":
    main()

"""Graphs of a compiled step over a schedule of learning rate and weight decay.

    python benchmarks/compiled_steps.py          rewrites the table in docs/algorithm.md
    python benchmarks/compiled_steps.py --show   prints it

Each way of stepping that the compiler can take (`foreach=False` and `foreach=True`; a kernel is left out under it)
takes 100 steps with another rate and decay at each, over weights with every kind of blocks: the settings as tensors
that are filled, and as numbers. Counted are graph breaks, and how often Dynamo compiled.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from tangential import SGDP, AdamP, Blocks

PAGE = Path(__file__).parent.parent / "docs" / "algorithm.md"
STEPS = 100
SETTINGS = {"lr": 1e-2, "weight_decay": 0.1}
OPTIMIZERS: dict[str, Callable[..., Any]] = {"AdamP": AdamP, "SGDP": partial(SGDP, momentum=0.9)}
HEAD = ("| optimizer | backend | settings | compiled | graph breaks |", "| --- | --- | --- | --- | --- |")


def groups() -> list[dict[str, Any]]:
    """A parameter group for every kind of blocks."""
    kinds = ("cosine", "sticky", Blocks(), Blocks(size=None), None)
    return [{"params": [nn.Parameter(torch.linspace(-1, 1, 24).view(4, 6))], "blocks": blocks} for blocks in kinds]


def counted(optimizer: Any, steps: int = STEPS) -> tuple[int, int]:
    """How often a schedule is compiled, and how often a graph breaks."""
    torch._dynamo.reset()
    counters.clear()
    graphs = CompileCounter()
    step = torch.compile(optimizer.step, backend=graphs)
    for t in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.linspace(0, 1 + t, p.numel()).sin().view_as(p)
            for key, first in SETTINGS.items():
                value = first * (1 + t) / steps
                group[key].fill_(value) if isinstance(group[key], torch.Tensor) else group.update({key: value})
        step()
    return graphs.frame_count, sum(counters["graph_break"].values())


def rows() -> list[str]:
    """The rows of the table."""
    found = []
    for name, make in OPTIMIZERS.items():
        for foreach in (False, True):
            for kind, to in (("tensors", torch.tensor), ("numbers", float)):
                optimizer = make(groups(), foreach=foreach, **{key: to(x) for key, x in SETTINGS.items()})
                numbers = " | ".join(map(str, counted(optimizer)))
                found.append(f"| {name} | `foreach={foreach}` | {kind} | {numbers} |")
                print(found[-1], flush=True)
    return found


def main() -> None:
    """Count, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="write nothing")
    wanted = parser.parse_args()
    table = "\n".join((*HEAD, *rows()))
    if not wanted.show:
        pattern = re.escape(HEAD[0]) + r"\n(\|.*\n?)*"
        PAGE.write_text(re.sub(pattern, lambda _: table + "\n", PAGE.read_text()))


if __name__ == "__main__":
    main()

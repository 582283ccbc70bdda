"""Cost of `tangential.watch`, as a share of a training step.

    python benchmarks/telemetry.py            ResNet-50 on 8 images of 224 x 224, a record every 10 steps
    python benchmarks/telemetry.py --quick    a toy, to see that it runs

A record is timed apart from the training step it belongs to: the same optimizer step with and without one, one after
the other in every round, and the median difference is divided by the training steps between two records. Steps without
a record are timed with and without `watch` too, and what they cost is in the share. As in `step_time.py`, one thread is
measured in CPU time and more on the wall, and rounds in which other processes used the machine are left out where
quieter ones exist.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from rounds import QUIET, interleave, seconds
from step_time import RESULTS, machine
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP, watch

EVERY = 10
ENTRANTS: dict[str, Callable[[Any], Optimizer]] = {
    "AdamP": lambda p: AdamP(p, 1e-9, weight_decay=0.01),
    "SGDP": lambda p: SGDP(p, 1e-9, 0.9),
    "torch AdamW": lambda p: AdamW(p, 1e-9),
    "torch AdamW fused": lambda p: AdamW(p, 1e-9, fused=True),
    "torch SGD": lambda p: SGD(p, 1e-9, 0.9),
}
"""Their learning rates are next to nothing, so that all can step the same weights."""

COLUMNS = ("threads", "optimizer", "training step (ms)", "record (ms)", "share", "other steps (ms)")


def network(quick: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The net, and a function that evaluates its loss."""
    torch.manual_seed(0)
    x, y = torch.randn(8, 3, 224, 224), torch.randint(0, 10, (8,))
    if quick:
        toy = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 10))
        return toy, lambda: nn.functional.cross_entropy(toy(x[..., :8, :8]), y)
    net = torchvision.models.resnet50()
    return net, lambda: nn.functional.cross_entropy(net(x), y)


def measure(name: str, net: nn.Module, training: float, rounds: int) -> dict[str, Any]:
    """Cost of a record and of the steps between records, in seconds."""
    bare, waiting, recorded = (ENTRANTS[name](net.parameters()) for _ in range(3))
    bare.step()
    waiting.state = recorded.state = bare.state
    names = dict(net.named_parameters())
    steps: dict[str, Callable[[], object]] = {"bare": bare.step, "waiting": waiting.step, "recorded": recorded.step}
    with watch(waiting, every=10**9, names=names), watch(recorded, every=1, names=names):
        for step in steps.values():
            step()
        found = interleave(steps, set(), rounds, slow_rounds=1)
    quiet = [r.seconds for r in found if r.others <= QUIET]
    kept = quiet or [r.seconds for r in found]
    record = statistics.median(t["recorded"] - t["waiting"] for t in kept)
    between = statistics.median(t["waiting"] - t["bare"] for t in kept)
    return dict(
        optimizer=name,
        threads=torch.get_num_threads(),
        training=training,
        record=record,
        between=between,
        share=(record + EVERY * max(0.0, between)) / EVERY / training,
        rounds=len(kept),
        quiet=bool(quiet),
    )


def measure_all(quick: bool, threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """One record per optimizer and number of threads."""
    found = []
    for count in threads:
        torch.set_num_threads(count)
        net, loss = network(quick)

        def train(net: nn.Module = net, loss: Callable[[], Tensor] = loss) -> None:
            net.zero_grad()
            loss().backward()

        train()
        training = statistics.median(seconds(train) for _ in range(3))
        for name in ENTRANTS:
            found.append(measure(name, net, training, rounds))
            print(row(found[-1]), flush=True)
    return found


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    numbers = (f"{1000 * found[key]:.{digits}f}" for key, digits in (("training", 0), ("record", 0), ("between", 2)))
    training, record, between = numbers
    cells = (found["threads"], found["optimizer"], training, record, f"{found['share']:.2%}", between)
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Measure, and write the results as JSON and as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a toy network and a few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.threads, wanted.rounds = [1], 3
    head = "| " + " | ".join(COLUMNS) + " |\n" + "|" + " --- |" * len(COLUMNS)
    print(head)
    found = measure_all(wanted.quick, wanted.threads, wanted.rounds)
    about = dict(cpu=machine(), capability=torch.backends.cpu.get_cpu_capability(), torch=torch.__version__)
    name = re.sub(r"\W+", "-", f"{about['cpu']} {os.cpu_count()} cores".lower()).strip("-")
    wanted.out.mkdir(parents=True, exist_ok=True)
    file = wanted.out / f"telemetry-{name}"
    content = dict(machine=about, command=" ".join(["python", *sys.argv]), every=EVERY, records=found)
    file.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    file.with_suffix(".md").write_text("\n".join([head, *map(row, found)]) + "\n")
    print(f"written to {file}.json and .md")


if __name__ == "__main__":
    main()

"""Step times against the named peers, as ratios to torch's fused AdamW and SGD.

    python benchmarks/step_time.py                 all networks, one and two threads
    python benchmarks/step_time.py --quick         a minute on a toy, to see that it runs
    python benchmarks/step_time.py --networks resnet50 --no-training      one network, beside what is there
    python benchmarks/step_time.py --device cuda   on a GPU; benchmarks/gpu.sh does this, and checks more

Every run puts its records in the place of older ones of the same network, gradients, threads and entrant, so that the
networks can be measured one by one, whenever the machine is quiet.

All entrants step the same weights, gradients and moments, one after the other in every round, and what counts is the
median over rounds of the ratio within a round: machines have moods, rounds have none. What other processes used of the
CPUs is written down for every round, and rounds with more than 0.15 of one are left out where quieter ones exist. One
thread is measured in CPU time, more on the wall; a GPU on the wall too, several steps in a row, launches included. That
the test fires means that every matrix passes it, as behind a normalisation; else hardly any does.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from entrants import REFERENCE, Entrant, ours, peers, started, torchs
from networks import NETWORKS, give_gradients, parameters
from rounds import copying, interleave, streaming, summary
from step_report import table
from step_results import Results, write
from training import shares

COMMAND = " ".join(["python", *sys.argv])
RESULTS = Path(__file__).parent / "results"
BYTES = {"adam": 28, "sgd": 20}
"""What a step must move per weight: weight, gradient and moments read, all but the gradient written."""


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def measure(network: str, wanted: argparse.Namespace, entrants: list[Entrant]) -> Iterator[dict[str, Any]]:
    """One record per entrant, kind of gradients and number of threads."""
    params = parameters(network, wanted.device)
    give_gradients(params, fires=True)
    elements = sum(p.numel() for p in params)
    optimizers, peaks = started(entrants, params)
    steps: dict[str, Any] = {name: optimizer.step for name, optimizer in optimizers.items()}
    ceiling = copying(elements) if wanted.device == "cuda" else streaming(elements)
    if ceiling:
        steps["streaming"] = ceiling
    slow = {entrant.name for entrant in entrants if entrant.slow}
    for threads, fires in product(wanted.threads, (True, False)):
        torch.set_num_threads(threads)
        give_gradients(params, fires)
        rounds = interleave(steps, slow, wanted.rounds, wanted.slow_rounds, wanted.device)
        limit = 28 * elements / summary(rounds, "streaming", "streaming").seconds / 1e9 if ceiling else None
        for entrant in entrants:
            found = summary(rounds, entrant.name, REFERENCE[entrant.family])
            speed = BYTES[entrant.family] * elements / found.seconds / 1e9
            yield dict(
                **dict(network=network, fires=fires, threads=threads, weights=elements),
                **dict(entrant=entrant.name, family=entrant.family, **asdict(found), gb_per_s=speed),
                of_ceiling=speed / limit if limit else None,
                peak_bytes=peaks[entrant.name],
                others=[round(r.others, 2) for r in rounds if entrant.name in r.seconds],
                command=COMMAND,
            )


def runs(wanted: argparse.Namespace) -> Iterator[Results]:
    """What each network gives, and at the end the training steps, ready to be written."""
    about = dict(
        **dict(cpu=machine(), cores=os.cpu_count(), capability=torch.backends.cpu.get_cpu_capability()),
        **dict(device="cpu" if wanted.device == "cpu" else torch.cuda.get_device_name(), torch=torch.__version__),
    )
    entrants = [entrant for entrant in (*torchs(), *ours(), *peers()) if not (wanted.only_fused and entrant.slow)]
    for network in wanted.networks:
        yield dict(machine=about, steps=list(measure(network, wanted, entrants)), training=[])
    if not wanted.no_training:
        training = []
        for threads in wanted.threads:
            torch.set_num_threads(threads)
            training += [
                dict(r, threads=threads, command=COMMAND) for r in shares(2 if wanted.quick else 20, wanted.device)
            ]
        yield dict(machine=about, steps=[], training=training)


def main() -> None:
    """Measure what the arguments ask for, and write it beside what other runs found on this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="may be none: training steps only")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--slow-rounds", type=int, default=2, help="rounds of what is known to be slow")
    parser.add_argument("--only-fused", action="store_true", help="leave out everything that is known to be slow")
    parser.add_argument("--no-training", action="store_true", help="leave out the share of a whole training step")
    parser.add_argument("--quick", action="store_true", help="a toy network and a few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.networks, wanted.threads, wanted.rounds = ["tiny"], [1], 3
    if wanted.device == "cuda":
        if not torch.cuda.is_available():
            parser.error("--device cuda, but torch sees no CUDA device here")
        wanted.threads = [torch.get_num_threads()]
    for found in runs(wanted):
        print(table(**found), flush=True)
        about = found["machine"]
        named = f"{about['cpu']} {about['cores']} cores" if wanted.device == "cpu" else about["device"]
        name = re.sub(r"\W+", "-", named.lower()).strip("-")
        file = write(found, wanted.out / f"step_time-{name}")
        print(f"written to {file}.json, .md and .png", flush=True)


if __name__ == "__main__":
    main()

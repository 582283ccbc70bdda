"""Step times against the named peers, as ratios to torch's fused AdamW and SGD.

    python benchmarks/step_time.py                 all networks, one and two threads
    python benchmarks/step_time.py --quick         a minute on a toy, to see that it runs
    python benchmarks/step_time.py --networks resnet50 --threads 2 --rounds 40
    python benchmarks/step_time.py --device cuda   on a GPU; benchmarks/gpu.sh does this, and checks more

All entrants step the same weights, gradients and moments, one after the other in every round, and what counts is the
median over rounds of the ratio within a round: machines have moods, rounds have none. Rounds in which other processes
used more than 0.15 of a CPU are left out where quieter ones exist. One thread is measured in CPU time, more on the
wall; a GPU on the wall too, several steps in a row, launches included. That the test fires means that every matrix
passes it, as behind a normalisation; else hardly any does.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from entrants import REFERENCE, Entrant, ours, peers, started, torchs
from networks import NETWORKS, give_gradients, parameters
from rounds import copying, interleave, peak_bytes, streaming, summary
from step_report import plot, table
from training import shares

RESULTS = Path(__file__).parent / "results"
BYTES = {"adam": 28, "sgd": 20}
"""What a step must move per weight: weight, gradient and moments read, all but the gradient written."""


def machine(device: str = "cpu") -> str:
    """The processor's name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def measure(
    network: str, fires: bool, rounds: int, entrants: list[Entrant], device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """One record per entrant."""
    params = parameters(network, device)
    give_gradients(params, fires)
    elements = sum(p.numel() for p in params)
    optimizers = started(entrants, params)
    steps: dict[str, Any] = {name: optimizer.step for name, optimizer in optimizers.items()}
    ceiling = copying(elements) if device == "cuda" else streaming(elements)
    if ceiling:
        steps["streaming"] = ceiling
    slow = {entrant.name for entrant in entrants if entrant.slow}
    times, quiet = interleave(steps, slow, rounds, device)
    place = dict(network=network, fires=fires, threads=torch.get_num_threads(), device=device, weights=elements)
    for entrant in entrants:
        found = summary(times, quiet, entrant.name, REFERENCE[entrant.family])
        speed = BYTES[entrant.family] * elements / found.seconds / 1e9
        record = {**place, "entrant": entrant.name, "family": entrant.family, **asdict(found), "gb_per_s": speed}
        if ceiling:
            record["of_ceiling"] = speed / (
                28 * elements / summary(times, quiet, "streaming", "streaming").seconds / 1e9
            )
        yield {**record, "peak_bytes": peak_bytes(steps[entrant.name], device)}


def everything(wanted: argparse.Namespace) -> dict[str, Any]:
    """All records, and what they were measured on."""
    entrants = [*torchs(), *ours(), *peers()]
    if wanted.only_fused:
        entrants = [entrant for entrant in entrants if not entrant.slow]
    records, training = [], []
    for threads in wanted.threads:
        torch.set_num_threads(threads)
        for network in wanted.networks:
            for fires in (True, False):
                records += measure(network, fires, wanted.rounds, entrants, wanted.device)
                print(table(records[-len(entrants) :]), flush=True)
        training += [dict(record, threads=threads) for record in shares(2 if wanted.quick else 20, wanted.device)]
    about = dict(
        cpu=machine(),
        device=machine(wanted.device),
        capability=torch.backends.cpu.get_cpu_capability(),
        torch=torch.__version__,
    )
    return dict(machine=about, command=" ".join(["python", *sys.argv]), steps=records, training=training)


def main() -> None:
    """Measure what the arguments ask for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only-fused", action="store_true", help="leave out everything that is known to be slow")
    parser.add_argument("--quick", action="store_true", help="a toy network and a few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    if wanted.device == "cuda":
        if not torch.cuda.is_available():
            parser.error("--device cuda, but torch sees no CUDA device here")
        wanted.threads = [torch.get_num_threads()]
    if wanted.quick:
        wanted.networks, wanted.threads, wanted.rounds = ["tiny"], [1], 3
    found = everything(wanted)
    where = found["machine"]["device"] + (f" {max(wanted.threads)} threads" if wanted.device == "cpu" else "")
    name = re.sub(r"\W+", "-", where.lower()).strip("-")
    wanted.out.mkdir(parents=True, exist_ok=True)
    file = wanted.out / f"step_time-{name}"
    file.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(found["steps"], found["training"]))
    plot(found["steps"], file.with_suffix(".png"))
    print(f"written to {file}.json, .md and .png")


if __name__ == "__main__":
    main()

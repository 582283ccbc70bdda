"""What `Radial` adds to a step of its base: time as a ratio within a round, and memory.

    python benchmarks/radial.py                    ResNet-50, one and two threads
    python benchmarks/radial.py --quick            seconds on a toy, to see that it runs

Entrants step the same weights, gradients and moments in turn, as in `step_time.py`, and the ratio of each is to its
bare base in the same round; rounds that other processes disturbed are left out where quieter ones exist. Memory is what
a step needs for a moment, beside the base's, in units of the largest weight; the copy, of one such unit, is kept from
the first step on and not in it. Gradients have no radial part, so the paper's test fires for every matrix.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from entrants import STILL, Entrant, started
from networks import NETWORKS, give_gradients, parameters
from rounds import interleave, summary
from torch.optim import SGD, AdamW

from tangential import SGDP, AdamP, Blocks, Radial
from tangential.radial import Brake, CautiousDecay, Fix, OrthogonalGradient, Project, Rotate, SphericalCaution

COMMAND = " ".join(["python", *sys.argv])
RESULTS = Path(__file__).parent / "results"
BASES = {"adam": "AdamW fused", "sgd": "SGD fused"}


def base(family: str, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The bare optimizer of a family, fused."""
    if family == "sgd":
        return SGD(params, STILL, 0.9, fused=True)
    return AdamW(params, STILL, weight_decay=0.01, fused=True)


def entrants() -> list[Entrant]:
    """The bases, the wrapper over each with every policy, and what is built in."""
    policies = {
        "Project, test": (Project(), "cosine"),
        "Project, blocks": (Project(), Blocks()),
        "Brake": (Brake(), Blocks()),
        "Fix": (Fix(), Blocks()),
        "Rotate": (Rotate(eta=STILL), Blocks()),
        "OrthogonalGradient": (OrthogonalGradient(), Blocks()),
        "SphericalCaution": (SphericalCaution(), Blocks()),
        "CautiousDecay": (CautiousDecay(), Blocks()),
    }
    found = [Entrant(name=name, family=family, make=partial(base, family)) for family, name in BASES.items()]
    for family, name in BASES.items():
        for policy, (rule, blocks) in policies.items():
            if family == "sgd" and not policy.startswith("Project"):
                continue
            make = partial(lambda f, r, b, params: Radial(base(f, params), r, b), family, rule, blocks)
            found.append(Entrant(name=f"Radial({name}), {policy}", family=family, make=make))
    built_in = {"AdamP": ("adam", AdamP, ()), "SGDP": ("sgd", SGDP, (0.9,))}
    for name, (family, cls, momentum) in built_in.items():
        for way, asked in {"fused": {}, "foreach": {"foreach": True}}.items():
            make = partial(lambda c, m, a, params: c(params, STILL, *m, **a), cls, momentum, asked)
            found.append(Entrant(name=f"{name} {way}", family=family, make=make))
    return found


def measure(network: str, rounds: int, threads: list[int]) -> Iterator[dict[str, Any]]:
    """One record per entrant and number of threads."""
    params = parameters(network)
    give_gradients(params, fires=True)
    all_of_them = entrants()
    optimizers, peaks = started(all_of_them, params)
    largest = 4 * max(p.numel() for p in params)
    for count in threads:
        torch.set_num_threads(count)
        found = interleave({name: o.step for name, o in optimizers.items()}, set(), rounds, 1)
        for entrant in all_of_them:
            peak, bare = peaks[entrant.name], peaks[BASES[entrant.family]]
            yield dict(
                **dict(network=network, threads=count, entrant=entrant.name, base=BASES[entrant.family]),
                **asdict(summary(found, entrant.name, BASES[entrant.family])),
                extra_in_largest_weights=None if peak is None or bare is None else (peak - bare) / largest,
                command=COMMAND,
            )


def table(records: list[dict[str, Any]]) -> str:
    """One line per record."""
    lines = [
        "| threads | entrant | ms | ratio to the base | memory, in largest weights |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in records:
        extra = "" if r["extra_in_largest_weights"] is None else f"{r['extra_in_largest_weights']:.2f}"
        mark = "" if r["quiet"] else " (not quiet)"
        ratio = f"{r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f}){mark}"
        lines.append(f"| {r['threads']} | {r['entrant']} | {1e3 * r['seconds']:.1f} | {ratio} | {extra} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write `radial.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", choices=[*NETWORKS, "tiny"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.network, wanted.rounds, wanted.threads = "tiny", 2, [1]
    records = list(measure(wanted.network, wanted.rounds, wanted.threads))
    print(table(records))
    (wanted.out / "radial.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()

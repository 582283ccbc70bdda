"""How far weights in half precision travel, and how far off they end, beside the same run in float32.

    python benchmarks/low_precision.py            writes the tables of docs/low-precision.md
    python benchmarks/low_precision.py --quick    fewer weights and steps, to see that it runs

A weight of 512 x 512 numbers of deviation 0.02 takes 100 steps of AdamW (AdamP without projection) on gradients whose
mean is not zero. All optimizers see the same gradients in the weight's dtype. With d the way from the first weight to
the last, and D that of torch's AdamW in float32 on the same gradients, a table has the distance, d.D / D.D, and the
error, |d - D| / |D|, as mean over eight seeds. The last row is D itself rounded once, the best that half a weight can
hold. torchao and optimi are measured where they are installed (`pip install torchao torch-optimi`).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import marks
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from tangential import AdamP

PAGE = Path(__file__).parent.parent / "docs" / "low-precision.md"
RATES = (1e-4, 1e-5)
Make = Callable[[list[Tensor], float], Optimizer]


def entrants() -> dict[str, Make]:
    """What is compared, by name."""
    plain: dict[str, Any] = dict(weight_decay=0.0)
    found: dict[str, Make] = {
        'AdamP, `compensation="kahan"`': lambda p, lr: AdamP(p, lr, blocks=None, compensation="kahan"),
        'AdamP, `compensation="stochastic"`': lambda p, lr: AdamP(p, lr, blocks=None, compensation="stochastic"),
        "AdamP, `compensation=None`": lambda p, lr: AdamP(p, lr, blocks=None, compensation=None),
        "torch AdamW": lambda p, lr: AdamW(p, lr, **plain),
    }
    if importlib.util.find_spec("optimi"):
        import optimi  # type: ignore[import-not-found]

        found["optimi AdamW, Kahan"] = lambda p, lr: optimi.AdamW(p, lr, betas=(0.9, 0.999), eps=1e-8, kahan_sum=True)
    if importlib.util.find_spec("torchao"):
        from torchao.optim import _AdamW  # type: ignore[import-not-found]

        found["torchao AdamW, stochastic"] = lambda p, lr: _AdamW(p, lr, **plain, bf16_stochastic_round=True)
    return found


def runs(make: Make | None, dtype: torch.dtype, lr: float, seed: int, size: int, steps: int) -> tuple[Tensor, Tensor]:
    """The way from the first weight to the last, of an optimizer in half precision and of AdamW in float32."""
    generator = torch.Generator().manual_seed(seed)
    start = (torch.randn(size, size, generator=generator) * 0.02).to(dtype)
    drift = torch.randn(size, size, generator=generator)
    half, full = start.clone().requires_grad_(), start.float().requires_grad_()
    torch.manual_seed(seed)
    optimizer, reference = make([half], lr) if make else None, AdamW([full], lr, weight_decay=0.0)
    for _ in range(steps):
        half.grad = (drift + torch.randn(size, size, generator=generator)).to(dtype)
        full.grad = half.grad.float()
        if optimizer:
            optimizer.step()
        reference.step()
    end = half.detach() if optimizer else full.detach().to(dtype)
    return end.double() - start.double(), full.detach().double() - start.double()


def measured(make: Make | None, dtype: torch.dtype, lr: float, size: int, steps: int, seeds: int) -> dict[str, float]:
    """Distance and error, means over seeds."""
    pairs = [runs(make, dtype, lr, seed, size, steps) for seed in range(seeds)]
    distance = mean(((d * right).sum() / (right * right).sum()).item() for d, right in pairs)
    return dict(distance=distance, error=mean(((d - right).norm() / right.norm()).item() for d, right in pairs))


def table(dtype: torch.dtype, size: int, steps: int, seeds: int) -> list[str]:
    """One line per optimizer."""
    head = [f"lr {lr:g}: {what}" for lr in RATES for what in ("distance", "error")]
    lines = [f"| {str(dtype).removeprefix('torch.')} | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(head)]
    every: dict[str, Make | None] = {**entrants(), "float32, rounded once at the end": None}
    for name, make in every.items():
        if dtype == torch.float16 and name.split()[0] in ("optimi", "torchao"):
            continue  # which have that for bfloat16 alone
        found = [measured(make, dtype, lr, size, steps, seeds) for lr in RATES]
        lines.append(f"| {name} | " + " | ".join(f"{x['distance']:.3f} | {x['error']:.3f}" for x in found) + " |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, and write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer weights, steps and seeds")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    wanted = parser.parse_args()
    size, steps, seeds = (32, 10, 1) if wanted.quick else (512, 100, 8)
    found: list[Any] = []
    for dtype in (torch.bfloat16, torch.float16):
        found += [*table(dtype, size, steps, seeds), ""]
    wanted.out.write_text(marks.replaced(wanted.out.read_text(), "measured", "\n" + "\n".join(found) + "\n"))


if __name__ == "__main__":
    main()

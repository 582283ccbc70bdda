"""Who is measured: our optimizers in every way they run, torch's, and the packages that have AdamP and SGDP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import adamp
import pytorch_optimizer
import timm.optim
import torch
from rounds import peak_bytes
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP, Blocks

Params = list[nn.Parameter]
STILL = 1e-10
"""A learning rate that leaves the weights where they are, so that all step the same ones."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One way to take a step.

    Args:
        name: What tables call it.
        family: "adam" or "sgd"; the ratio is to torch's fused optimizer of that family.
        make: From parameters to an optimizer.
        slow: Whether it is measured in some rounds only.
    """

    name: str
    family: str
    make: Callable[[Params], Optimizer]
    slow: bool = False


def groups(params: Params, blocks: Blocks | str | None) -> list[dict[str, object]]:
    """Matrices with these blocks, everything else without."""
    matrices = [p for p in params if p.ndim > 1]
    rest = [p for p in params if p.ndim < 2]
    return [dict(params=matrices, blocks=blocks), dict(params=rest, blocks=None)]


BLOCKS: dict[str, Blocks | str | None] = {
    "cosine": "cosine",
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "none": None,
}
BACKENDS = {"fused": dict(fused=True), "foreach": dict(foreach=True), "eager": dict(foreach=False)}
REFERENCE = {"adam": "torch AdamW fused", "sgd": "torch SGD fused"}


def torchs() -> list[Entrant]:
    """What comes with torch, in its three ways."""
    ways = {"fused": dict(fused=True), "foreach": dict(foreach=True), "for-loop": dict(foreach=False, fused=False)}
    found = []
    for way, asked in ways.items():
        slow = way != "fused"
        found += [
            Entrant(name=f"torch AdamW {way}", family="adam", slow=slow, make=lambda p, a=asked: AdamW(p, STILL, **a)),
            Entrant(name=f"torch SGD {way}", family="sgd", slow=slow, make=lambda p, a=asked: SGD(p, STILL, 0.9, **a)),
        ]
    return found


def ours() -> list[Entrant]:
    """Every backend with every kind of blocks."""
    found = []
    for way, asked in BACKENDS.items():
        for kind, blocks in BLOCKS.items():
            found += [
                Entrant(
                    name=f"AdamP {kind} {way}",
                    family="adam",
                    slow=way != "fused",
                    make=lambda p, a=asked, b=blocks: AdamP(groups(p, b), STILL, weight_decay=0.01, **a),
                ),
                Entrant(
                    name=f"SGDP {kind} {way}",
                    family="sgd",
                    slow=way != "fused",
                    make=lambda p, a=asked, b=blocks: SGDP(groups(p, b), STILL, 0.9, **a),
                ),
            ]
    return found


def peers() -> list[Entrant]:
    """The packages that have AdamP and SGDP."""
    found = []
    for package, module in {"adamp": adamp, "timm": timm.optim, "pytorch_optimizer": pytorch_optimizer}.items():
        found += [
            Entrant(name=f"{package} AdamP", family="adam", slow=True, make=lambda p, m=module: m.AdamP(p, STILL)),
            Entrant(
                name=f"{package} SGDP", family="sgd", slow=True, make=lambda p, m=module: m.SGDP(p, STILL, momentum=0.9)
            ),
        ]
    return found


@torch.no_grad()
def started(entrants: list[Entrant], params: Params) -> tuple[dict[str, Optimizer], dict[str, int | None]]:
    """Optimizers that have stepped, and what their second step needed of memory, in bytes.

    They share their moments: all at once would not fit in memory.
    """
    shared: dict[nn.Parameter, list[torch.Tensor]] = {p: [] for p in params}
    found, peaks = {}, {}
    for entrant in entrants:
        optimizer = found[entrant.name] = entrant.make(params)
        optimizer.step()
        for p in params:
            own = optimizer.state[p]
            names = [name for name, x in own.items() if isinstance(x, torch.Tensor) and x.shape == p.shape and p.ndim]
            for i, name in enumerate(names):
                if i == len(shared[p]):
                    shared[p].append(own[name])
                own[name] = shared[p][i]
        peaks[entrant.name] = peak_bytes(optimizer.step, params[0].device.type)
    return found, peaks

"""Our optimizers beside the installed ones: 50 steps in float64 on the same models, and how far the weights are apart.

    python benchmarks/parity.py            rewrites docs/parity.md

`paper` is Algorithms 1 and 2 written out once more, with loops over channels and nothing of this package, so that it
can judge all the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import adamp
import pytorch_optimizer
import timm.optim
import torch
from torch import Tensor, nn

import tangential

STEPS = 50
PAGE = Path(__file__).parent.parent / "docs" / "parity.md"
EXACT = 1e-12


class Paper(torch.optim.Optimizer):
    """Algorithms 1 and 2, one channel at a time, with the decoupled weight decay of the authors' package."""

    def __init__(self, params: Any, rule: Callable[..., Tensor], decay: float, lr: float) -> None:
        super().__init__(params, dict(lr=lr))
        self.rule, self.decay = rule, decay

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for p in (p for group in self.param_groups for p in group["params"]):
            lr, state = self.param_groups[0]["lr"], self.state[p]
            state["t"] = state.get("t", 0) + 1
            direction, projected = project(p, p.grad, self.rule(state, p.grad))
            p.copy_(p * (1 - lr * self.decay * (0.1 if projected else 1)) - lr * direction)


def project(w: Tensor, g: Tensor, u: Tensor) -> tuple[Tensor, bool]:
    """Take the radial part out of `u`, by channel or by layer, where `w` and `g` are orthogonal."""
    if w.ndim < 2:
        return u, False
    for rows in (w.shape[0], 1):
        ws, gs, us = (x.reshape(rows, -1) for x in (w, g, u))
        bound = 0.1 / ws.shape[1] ** 0.5
        cosines = [abs(a @ b) / (max(a.norm(), 1e-8) * max(b.norm(), 1e-8)) for a, b in zip(ws, gs, strict=True)]
        if all(cosine < bound for cosine in cosines):
            unit = [a / (a.norm() + 1e-8) for a in ws]
            return torch.stack([x - (x @ e) * e for x, e in zip(us, unit, strict=True)]).view_as(u), True
    return u, False


def sgd_rule(state: dict[str, Any], g: Tensor, *, nesterov: bool) -> Tensor:
    """Heavy-ball or Nesterov momentum of 0.9."""
    state["p"] = 0.9 * state.get("p", 0.0) + g
    return g + 0.9 * state["p"] if nesterov else state["p"]


def adam_rule(state: dict[str, Any], g: Tensor, *, nesterov: bool) -> Tensor:
    """Adam's direction with bias corrections."""
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g * g
    m = 0.9 * state["m"] + 0.1 * g if nesterov else state["m"]
    t = state["t"]
    return (m / (1 - 0.9**t)) / ((state["v"] / (1 - 0.999**t)).sqrt() + 1e-8)


class Mixed(nn.Module):
    """An embedding, a convolution, vectors and matrices in one model."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.gain = nn.Embedding(7, 16), nn.Parameter(torch.ones(16))
        self.conv, self.norm = nn.Conv1d(4, 8, 3, padding=1, bias=False), nn.BatchNorm1d(8)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, ...)` numbers to `(batch, 3)`."""
        tokens = (x.flatten(1)[:, :3].abs() * 3).long() % 7
        rows = (self.table(tokens).mean(1) * self.gain).view(-1, 4, 4)
        return self.head(torch.relu(self.norm(self.conv(rows))).flatten(1))


class Vectors(nn.Module):
    """Parameters of 0 and 1 dimensions only."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.scale = nn.Parameter(torch.ones(48)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, ...)` numbers to `(batch, 3)`."""
        return ((x.flatten(1)[:, :48] * self.gain).tanh() * self.scale).view(-1, 3, 16).sum(2)


class Tokens(nn.Module):
    """An embedding whose rows are normalised: most rows have a zero gradient at any step."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(30, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, ...)` numbers to `(batch, 3)`."""
        return self.head(self.norm(self.table((x.flatten(1)[:, 0].abs() * 10).long() % 30)))


def convolutional(norm: bool) -> nn.Module:
    """Two convolutions, with or without batch normalisation."""

    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, bias=not norm), nn.BatchNorm2d(b) if norm else nn.Identity(), nn.ReLU()]

    return nn.Sequential(*block(3, 6), *block(6, 8), nn.Flatten(), nn.Linear(32, 3))


def linear(norm: bool) -> nn.Module:
    """Two linear layers, with or without layer normalisation."""
    middle = nn.LayerNorm(10) if norm else nn.Tanh()
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 10, bias=False), middle, nn.Linear(10, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "convolution, projected": partial(convolutional, True),
    "convolution, not projected": partial(convolutional, False),
    "linear, projected": partial(linear, True),
    "linear, not projected": partial(linear, False),
    "vectors": Vectors,
    "embedding": Tokens,
    "mixed": Mixed,
}
DECAYS = (0.0, 0.1)

Maker = Callable[..., torch.optim.Optimizer]
SGDP: dict[str, Maker] = {
    "paper": lambda params, nesterov, decay: Paper(params, partial(sgd_rule, nesterov=nesterov), decay / 0.1, 0.05),
    "adamp": lambda params, nesterov, decay: adamp.SGDP(params, 0.05, 0.9, weight_decay=decay, nesterov=nesterov),
    "timm": lambda params, nesterov, decay: timm.optim.SGDP(params, 0.05, 0.9, weight_decay=decay, nesterov=nesterov),
    "pytorch_optimizer": lambda params, nesterov, decay: pytorch_optimizer.SGDP(
        params, 0.05, 0.9, weight_decay=decay, nesterov=nesterov
    ),
    "ours": lambda params, nesterov, decay: tangential.SGDP(params, 0.05, 0.9, weight_decay=decay, nesterov=nesterov),
}
ADAMP: dict[str, Maker] = {
    "paper": lambda params, nesterov, decay: Paper(params, partial(adam_rule, nesterov=nesterov), decay, 0.01),
    "adamp": lambda params, nesterov, decay: adamp.AdamP(params, 0.01, weight_decay=decay, nesterov=nesterov),
    "timm": lambda params, nesterov, decay: timm.optim.AdamP(params, 0.01, weight_decay=decay, nesterov=nesterov),
    "pytorch_optimizer": lambda params, nesterov, decay: pytorch_optimizer.AdamP(
        params, 0.01, weight_decay=decay, nesterov=nesterov
    ),
    "ours": lambda params, nesterov, decay: tangential.AdamP(params, 0.01, weight_decay=decay, nesterov=nesterov),
}
RULES = {"AdamP": ADAMP, "SGDP": SGDP}
PEERS = ("paper", "adamp", "timm", "pytorch_optimizer")

_EPS = "adds `eps` before the bias correction of the second moment, not after it. With an `eps` of 1e-30 it is equal."
DIFFERENCES = {
    (
        "SGDP",
        False,
        "adamp",
    ): "projects its momentum buffer in place: direction and buffer are one tensor there, so"
    " every later step starts from a changed buffer. Algorithm 1 projects the step only.",
    ("AdamP", False, "pytorch_optimizer"): _EPS,
    ("AdamP", True, "pytorch_optimizer"): _EPS,
}
"""Where a package does not follow the paper, and why. The tests hold both: these differ, and nothing else does."""


@cache
def train(rule: str, who: str, model: str, nesterov: bool, decay: float) -> list[Tensor]:
    """The weights after `STEPS` steps on one batch."""
    torch.manual_seed(0)
    net = MODELS[model]().double()
    x, y = torch.randn(24, 3, 6, 6, dtype=torch.float64), torch.randint(0, 3, (24,))
    optimizer = RULES[rule][who](net.parameters(), nesterov, decay)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def distance(rule: str, peer: str, model: str, nesterov: bool, decay: float, ours: str = "ours") -> float:
    """Largest difference of any weight, relative to the largest entry of that weight."""
    pairs = zip(*(train(rule, who, model, nesterov, decay) for who in (ours, peer)), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def farthest(rule: str, peer: str, nesterov: bool) -> float:
    """The largest distance over all models and decays."""
    return max(distance(rule, peer, model, nesterov, decay) for model, decay in product(MODELS, DECAYS))


def table() -> list[str]:
    """The page's table."""
    lines = ["| optimizer | momentum | compared with | largest difference | |", "| --- | --- | --- | --- | --- |"]
    for rule, nesterov, peer in product(RULES, (False, True), PEERS):
        far = farthest(rule, peer, nesterov)
        verdict = "equal" if far < EXACT else f"differs: {DIFFERENCES[rule, nesterov, peer]}"
        form = "Nesterov" if nesterov else "plain"
        name = "the paper's algorithm" if peer == "paper" else f"`{peer}`"
        lines.append(f"| {rule} | {form} | {name} | {far:.0e} | {verdict} |")
    return lines


def page() -> str:
    """The whole page."""
    packages = [("adamp", "adamp"), ("timm", "timm"), ("pytorch_optimizer", "pytorch-optimizer"), ("torch", "torch")]
    versions = ", ".join(f"`{name}` {version(package)}" for name, package in packages)
    text = f"""# Parity

Each row trains {len(MODELS)} small models for {STEPS} steps in float64, without and with weight decay, once with our
optimizer and once with the other, from the same start on the same batch. The number is the largest difference of any
entry of any weight at the end, relative to the largest entry of that weight; below {EXACT:.0e} counts as equal. "The
paper's algorithm" is a separate transcription of Algorithms 1 and 2 (arXiv 2006.08217), in the script itself.

Models: {"; ".join(MODELS)}.

Made by `make parity` with {versions}.

"""
    return text + "\n".join(table()) + "\n" + NOTES


NOTES = """
What else differs, and is not visible in this table:

- `SGDP` with `dampening`: the buffer starts at zero, as in `adamp`, so dampening acts at the first step too;
  `torch.optim.SGD` starts from the first gradient.
- Weight decay is decoupled: `AdamP` shrinks a weight by `lr * weight_decay`, `SGDP` by
  `lr * weight_decay / (1 - momentum)`, projected weights by `wd_ratio` of that. All packages above agree.
- `timm.optim.create_optimizer_v2` passes `nesterov=True` to both, and `wd_ratio=0.01` to `adamp`; the table constructs
  timm's classes directly, whose defaults are those of `adamp`.
- bf16 and fp16 weights: ours keep their moments in float32 and round once a step; the others compute in the weight's
  precision.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE.name}\n")

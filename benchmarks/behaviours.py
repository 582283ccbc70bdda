"""What each package's AdamP does with the weights and settings that users have.

    python benchmarks/behaviours.py        rewrites docs/comparison.md

Every cell is what a few lines of code found out just now, about the class constructed with its own defaults.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adamp
import pytorch_optimizer
import timm.optim
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import tangential

PAGE = Path(__file__).parent.parent / "docs" / "comparison.md"
PACKAGES = {
    "tangential": (tangential.AdamP, "tangential"),
    "adamp": (adamp.AdamP, "adamp"),
    "timm": (timm.optim.AdamP, "timm"),
    "pytorch_optimizer": (pytorch_optimizer.AdamP, "pytorch-optimizer"),
}

Maker = Callable[..., torch.optim.Optimizer]


def leaf(w: Tensor, g: Tensor | None = None) -> Tensor:
    """A parameter with a gradient."""
    w = w.detach().requires_grad_()
    w.grad = torch.ones_like(w) if g is None else g
    return w


def works(maker: Maker, *params: Tensor, **settings: Any) -> str:
    """Whether a step goes through and moves every weight that has elements."""
    before = [p.detach().clone() for p in params]
    try:
        maker(list(params), **settings).step()
    except Exception as error:  # packages have error classes of their own
        return f"no ({type(error).__name__})"
    return "yes" if all(not torch.equal(p, old) for p, old in zip(params, before, strict=True) if p.numel()) else "no"


def refuses(maker: Maker, **settings: Any) -> str:
    """Whether the constructor raises."""
    try:
        maker([leaf(torch.ones(3, 2))], **settings)
    except Exception:  # packages have error classes of their own
        return "yes"
    return "no"


class Reads(TorchDispatchMode):
    """Counts operations that bring data to the host: on an accelerator, each waits for all work before it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and go on."""
        self.count += func.name().split(".")[0] in ("aten::_local_scalar_dense", "aten::is_nonzero")
        return func(*args, **(kwargs or {}))


def read_backs(maker: Maker) -> str:
    """Read-backs in one step of ten random matrices and ten vectors, counted on the CPU."""
    torch.manual_seed(0)
    params = [leaf(torch.randn(s), torch.randn(s)) for s in [(8, 9), (8,)] * 10]
    optimizer = maker(params)
    optimizer.step()
    with Reads() as reads:
        optimizer.step()
    return str(reads.count)


def compiles(maker: Maker) -> str:
    """Whether `torch.compile(optimizer.step, fullgraph=True)` makes one graph."""
    torch._dynamo.reset()
    optimizer = maker([leaf(torch.randn(4, 6)), leaf(torch.randn(4))])
    try:
        torch.compile(optimizer.step, fullgraph=True, backend="eager")()
    except Exception:  # the compiler's own errors have no common public base
        return "no"
    return "yes"


def keeps_gradients(maker: Maker) -> str:
    """Whether `maximize=True` exists and leaves `.grad` as it was."""
    w = leaf(torch.randn(4, 6))
    try:
        maker([w], maximize=True).step()
    except TypeError:
        return "no maximize"
    return "yes" if torch.equal(w.grad, torch.ones_like(w)) else "no"


def refuses_foreign_state(maker: Maker) -> str:
    """Whether loading the state of `torch.optim.Adagrad` raises instead of failing, or going wrong, later."""
    other = torch.optim.Adagrad([leaf(torch.ones(3, 2))])
    other.step()
    try:
        maker([leaf(torch.ones(3, 2))]).load_state_dict(other.state_dict())
    except Exception:  # packages have error classes of their own
        return "yes"
    return "no"


def refuses_damaged_state(maker: Maker) -> str:
    """Whether loading moments of another shape raises instead of failing, or going wrong, later."""
    optimizer = maker([leaf(torch.ones(3, 2))])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"] = {0: {k: v.reshape(-1) if torch.is_tensor(v) else v for k, v in saved["state"][0].items()}}
    try:
        maker([leaf(torch.ones(3, 2))]).load_state_dict(saved)
    except Exception:  # packages have error classes of their own
        return "yes"
    return "no"


def continues_adamw(maker: Maker) -> str:
    """Whether the state of `torch.optim.AdamW` loads and the next step goes through with its moments."""
    other = torch.optim.AdamW([leaf(torch.ones(3, 2))])
    other.step()
    w = leaf(torch.ones(3, 2))
    optimizer = maker([w])
    try:
        optimizer.load_state_dict(other.state_dict())
        optimizer.step()
    except Exception as error:  # packages have error classes of their own
        return f"no ({type(error).__name__})"
    return "yes" if int(optimizer.state[w].get("step", 0)) == 2 else "no (starts at step 1)"


def half_moments(maker: Maker) -> str:
    """The dtype that the second moment of a bf16 weight has."""
    w = leaf(torch.ones(3, 2, dtype=torch.bfloat16))
    optimizer = maker([w])
    optimizer.step()
    return str(optimizer.state[w]["exp_avg_sq"].dtype).removeprefix("torch.")


def projects_known_blocks(maker: Maker) -> str:
    """Whether `blocks=` takes the radial part out of a step that the paper's test would let through."""
    w = leaf(torch.randn(4, 6))
    w.grad = 2 * w.detach()
    before = w.detach().clone()
    try:
        maker([w], blocks=tangential.Blocks()).step()
    except TypeError:
        return "no"
    radial = ((w.detach() - before) * before).sum(1)
    return "yes" if radial.abs().max() < 1e-6 else "no"


def images(layout: torch.memory_format) -> Tensor:
    """A convolution's weight in a memory layout."""
    return leaf(nn.Conv2d(4, 8, 3).weight.detach().to(memory_format=layout))


BEHAVIOURS: dict[str, Callable[[Maker], str]] = {
    "host read-backs per step (20 parameters)": read_backs,
    "`torch.compile(step, fullgraph=True)`": compiles,
    "channels-last weights": lambda m: works(m, images(torch.channels_last)),
    "transposed weights": lambda m: works(m, leaf(torch.randn(6, 4).t())),
    "complex weights": lambda m: works(m, leaf(torch.randn(4, 6, dtype=torch.complex64))),
    "empty weights": lambda m: works(m, leaf(torch.ones(0, 4)), leaf(torch.ones(3, 2))),
    "`lr` as a tensor": lambda m: works(m, leaf(torch.randn(4, 6)), lr=torch.tensor(1e-3)),
    "`maximize` leaves gradients alone": keeps_gradients,
    "second moment of bf16 weights": half_moments,
    "refuses `lr=-1`": lambda m: refuses(m, lr=-1.0),
    "refuses unknown arguments": lambda m: refuses(m, wd_ration=0.1),
    "refuses another optimizer's state": refuses_foreign_state,
    "refuses moments of another shape": refuses_damaged_state,
    "continues AdamW's state": continues_adamw,
    "projects known blocks without a test": projects_known_blocks,
}


def findings() -> dict[str, list[str]]:
    """One row per behaviour, one cell per package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: [find(maker) for maker, _ in PACKAGES.values()] for name, find in BEHAVIOURS.items()}


def table(rows: dict[str, list[str]]) -> str:
    """The rows as markdown."""
    lines = ["| | " + " | ".join(f"`{name}`" for name in PACKAGES) + " |", "| --- " * (1 + len(PACKAGES)) + "|"]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])


def page() -> str:
    """The whole page."""
    versions = ", ".join(f"`{name}` {version(package)}" for name, (_, package) in PACKAGES.items())
    return f"""# Comparison

What each package's AdamP does, constructed with its own defaults; see [parity](parity.md) for the numbers they compute.
Every cell is the outcome of a few lines of code.

Made by `make parity` with {versions}, `torch` {torch.__version__.partition("+")[0]}.

{table(findings())}

Constructed with `foreach=True`, which is not its default on a CPU, `pytorch_optimizer` reads nothing back and compiles.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE.name}\n")

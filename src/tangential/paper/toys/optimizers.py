"""Optimizers of the toy problems: the paper's, with its settings, and any other by its dotted name."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from tangential.blocks import Blocks
from tangential.optimizers import SGDP

Make = Callable[[Sequence[Tensor]], Optimizer]
"""Builds an optimizer from parameters: `functools.partial(torch.optim.SGD, lr=0.1)`."""

BETAS = (0.9, 0.95, 0.99)
GD, MOMENTUM, DECAY, OURS = "GD", "GD + momentum", "GD + momentum + decay", "SGDP"
PROJECTED_BUFFER = "SGDP, projected buffer"


class ProjectedBuffer(Optimizer):
    """SGDP of the authors' package, which projects the momentum buffer along with the step.

    Algorithm 1 projects the step alone, and so does `tangential.SGDP`; in the authors' package the two share memory.
    The paper's 3-D figure was drawn with this one, so it is here, for the figure only: every weight is one block and is
    always projected.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        momentum: Momentum.
    """

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not called."""
        for group in self.param_groups:
            for w in group["params"]:
                buffer = self.state[w].setdefault("momentum_buffer", torch.zeros_like(w))
                buffer.mul_(group["momentum"]).add_(w.grad)
                buffer.sub_(w * ((buffer * w).sum() / (w * w).sum()))
                w.sub_(buffer, alpha=group["lr"])


def on_circle(beta: float = 0.9) -> dict[str, Make]:
    """Optimizers of the 2-D videos.

    Args:
        beta: Momentum; the videos have 0.9, 0.95 and 0.99.

    Returns:
        Name to what builds it.

    Examples:
        >>> list(on_circle())
        ['GD', 'GD + momentum', 'SGDP']
    """
    return {
        GD: partial(SGD, lr=0.01),
        MOMENTUM: partial(SGD, lr=0.01, momentum=beta),
        OURS: partial(SGDP, lr=0.01, momentum=beta, blocks=Blocks()),
    }


def on_sphere() -> dict[str, Make]:
    """Optimizers of the 3-D figure, and SGDP as in the paper's Algorithm 1.

    The learning rates are fitted to the figure's first 40 steps.

    Returns:
        Name to what builds it.

    Examples:
        >>> list(on_sphere())
        ['GD + momentum', 'GD + momentum + decay', 'SGDP, projected buffer', 'SGDP']
    """
    return {
        MOMENTUM: partial(SGD, lr=0.05515692, momentum=0.9),
        DECAY: partial(SGD, lr=0.07074675, momentum=0.9, weight_decay=0.05),
        PROJECTED_BUFFER: partial(ProjectedBuffer, lr=0.04406684, momentum=0.9),
        OURS: partial(SGDP, lr=0.04406684, momentum=0.9, blocks=Blocks()),
    }


def named(text: str) -> Make:
    """Optimizer from its dotted name and settings, as a command line gives them.

    Args:
        text: A call with keyword arguments that are literals: `torch.optim.AdamW(lr=0.01, betas=(0.9, 0.99))`.

    Returns:
        What builds it.

    Raises:
        ValueError: Text that is no such call, no optimizer of that name, or settings it does not take.

    Examples:
        >>> named("torch.optim.AdamW(lr=0.01)")([torch.zeros(2, requires_grad=True)]).defaults["lr"]
        0.01
    """
    usage = f"{text!r} is not an optimizer; write it as a call with its settings, like torch.optim.AdamW(lr=0.01)"
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError(usage)
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        module, _, name = ast.unparse(call.func).rpartition(".")
        found = getattr(importlib.import_module(module), name)
    except (SyntaxError, ValueError, ImportError, AttributeError) as error:
        raise ValueError(usage) from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise ValueError(f"{ast.unparse(call.func)} is no torch.optim.Optimizer; name a class that is")
    make = partial(found, **settings)
    try:
        make([torch.zeros(1, 2, requires_grad=True)])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r}: {error}") from error
    return make

"""Hyperball: AdamH and MuonH.

Each is a `Radial` whose constructor makes the base; further arguments go to that base, which refuses what it does not
know. `blocks` of a parameter group says which weights are treated, or `invariances`, as in `Radial`; None leaves a
weight to the base, as is usual for embeddings and the head.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tangential.blocks import Blocks
from tangential.optimizers.base import Params
from tangential.radial.norms import Fix
from tangential.radial.wrapper import Radial


class AdamH(Radial):
    """Adam on hyperballs: `W' = R N(W - lr R N(u))`, with `N(x) = x / |x|` and `R = |W|` at the first step.

    Source: arXiv 2606.16899 (Hyperball). It treats every matrix as one block, invariant or not, as published. A good
    `lr` is about `sqrt(lr * weight_decay)` of a tuned AdamW.

    Args:
        params: Parameters, named parameters or groups.
        lr: Angle per step of treated weights, about; learning rate of the others.
        betas: Decay rates of Adam.
        eps: Adam's.
        weight_decay: Decoupled decay of weights that are not treated.
        radius: The norm of all treated weights; None for that of each at its first step.
        invariances: As in `Radial`; by default every matrix is one block.
        **base: Further arguments of `torch.optim.AdamW`.

    Examples:
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = AdamH([w], lr=0.1)
        >>> w.grad = torch.tensor([[1.0, -1.0]])
        >>> optimizer.step()
        >>> round(w.norm().item(), 4)
        5.0
    """

    _blocks: ClassVar[Any] = Blocks(size=None)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        radius: float | None = None,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        adam = torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **base)
        super().__init__(adam, Fix(radius), invariances, steps="relative")


class MuonH(Radial):
    """Muon on hyperballs, for matrices only: `AdamH` with Muon's update.

    Source: arXiv 2606.16899. Muon's adjustment of the learning rate by shape has no effect, since updates are scaled to
    the norm of the weight.

    Args:
        params: Matrices.
        lr: Angle per step, about.
        momentum: Muon's.
        radius: The norm of all weights; None for that of each at its first step.
        invariances: As in `Radial`; by default every matrix is one block.
        **base: Further arguments of `torch.optim.Muon`.

    Examples:
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = MuonH([w], lr=0.1)
        >>> w.grad = torch.tensor([[1.0, -1.0]])
        >>> optimizer.step()
        >>> round(w.norm().item(), 4)
        5.0
    """

    _blocks: ClassVar[Any] = Blocks(size=None)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        momentum: float = 0.95,
        *,
        radius: float | None = None,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        muon = torch.optim.Muon(params, lr=lr, momentum=momentum, **{"weight_decay": 0.0, **base})
        super().__init__(muon, Fix(radius), invariances, steps="relative")

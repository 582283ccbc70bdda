"""AdamW at rotational equilibrium, and with orthogonal gradients.

Each is a `Radial` whose constructor makes the base; further arguments go to that base, which refuses what it does not
know. `blocks` of a parameter group says which weights are treated, or `invariances`, as in `Radial`; None leaves a
weight to the base, as is usual for embeddings and the head.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tangential.blocks import Blocks
from tangential.optimizers.base import Params
from tangential.radial.projections import OrthogonalGradient
from tangential.radial.rotation import Rotate
from tangential.radial.wrapper import Radial


class RVAdamW(Radial):
    """AdamW at rotational equilibrium from the first step on: `Rotate` with the angle predicted for AdamW.

    Source: Kosson et al., arXiv 2305.17212; the defaults are those of the authors' code: rows are blocks, their means
    are taken out of the weights at construction and out of every update. Groups without weight decay have no angle:
    give them `blocks=None`.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate; the angle is `sqrt(2 lr weight_decay (1 - beta1) / (1 + beta1))`.
        betas: Decay rates of Adam.
        eps: Adam's.
        weight_decay: Decoupled decay.
        averaging: Decay rate of the average length of updates.
        center: Whether means are taken out.
        invariances: As in `Radial`; by default every row of a matrix is a block.
        **base: Further arguments of `torch.optim.AdamW`.

    Examples:
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, -3.0], [1.0, -1.0]]))
        >>> optimizer = RVAdamW([w], center=False)
        >>> w.grad = torch.tensor([[1.0, 2.0], [-1.0, 1.0]])
        >>> optimizer.step()
        >>> [round(x, 4) for x in w.norm(dim=1).tolist()]
        [4.2426, 1.4142]
    """

    _blocks: ClassVar[Any] = Blocks()

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        averaging: float = 0.9,
        center: bool = True,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        adam = torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **base)
        super().__init__(adam, Rotate(averaging=averaging, center=center), invariances)


class OrthoAdamW(Radial):
    """AdamW with orthogonal gradients: `OrthogonalGradient` of every weight and vector as a whole.

    Source: Prieto et al., arXiv 2501.04697 (⊥AdamW), which treats every parameter, invariant or not.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate.
        betas: Decay rates of Adam.
        eps: Adam's.
        weight_decay: Decoupled decay.
        invariances: As in `Radial`; by default every parameter is one block.
        **base: Further arguments of `torch.optim.AdamW`.

    Examples:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
        >>> optimizer = OrthoAdamW([w], lr=0.5, weight_decay=0.0)
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> w.tolist()
        [1.0, -0.5]
    """

    _blocks: ClassVar[Any] = Blocks(size=None)
    _least_ndim: ClassVar[int] = 1

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        adam = torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **base)
        super().__init__(adam, OrthogonalGradient(), invariances)

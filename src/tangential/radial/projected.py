"""The paper's projection over NAdam, RAdam, Muon and Lion.

Each is a `Radial` whose constructor makes the base; further arguments go to that base, which refuses what it does not
know. `blocks` of a parameter group says which weights are treated, or `invariances`, as in `Radial`; None leaves a
weight to the base, as is usual for embeddings and the head.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from tangential.optimizers.base import Params
from tangential.radial.projections import Project
from tangential.radial.wrapper import Radial

Betas = tuple[float, float]


class NAdamP(Radial):
    """NAdam with the paper's projection: `torch.optim.NAdam` with decoupled decay, under `Project`.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate.
        betas: Decay rates of NAdam.
        eps: NAdam's.
        weight_decay: Decoupled decay.
        wd_ratio: Decay of projected weights relative to that of the others.
        delta: Threshold of the paper's test.
        invariances: As in `Radial`; by default the paper's test decides.
        **base: Further arguments of `torch.optim.NAdam`.

    Examples:
        >>> w = torch.nn.Parameter(torch.ones(2, 3))
        >>> optimizer = NAdamP([w], lr=0.1)
        >>> w.grad = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])  # orthogonal to both rows
        >>> optimizer.step()
        >>> bool((w * torch.tensor(1.0)).sum(1).allclose(torch.tensor(3.0)))
        True
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        wd_ratio: float = 0.1,
        delta: float = 0.1,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        settings: dict[str, Any] = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **base)
        nadam = torch.optim.NAdam(params, decoupled_weight_decay=True, **settings)
        super().__init__(nadam, Project(wd_ratio), invariances, delta=delta)


class RAdamP(Radial):
    """RAdam with the paper's projection: `torch.optim.RAdam` with decoupled decay, under `Project`.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate.
        betas: Decay rates of RAdam.
        eps: RAdam's.
        weight_decay: Decoupled decay.
        wd_ratio: Decay of projected weights relative to that of the others.
        delta: Threshold of the paper's test.
        invariances: As in `Radial`; by default the paper's test decides.
        **base: Further arguments of `torch.optim.RAdam`.

    Examples:
        >>> w = torch.nn.Parameter(torch.ones(2, 3))
        >>> optimizer = RAdamP([w], lr=0.1)
        >>> w.grad = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
        >>> optimizer.step()
        >>> [round(x, 4) for x in w.sum(1).tolist()]
        [3.0, 3.0]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        wd_ratio: float = 0.1,
        delta: float = 0.1,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        settings: dict[str, Any] = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **base)
        radam = torch.optim.RAdam(params, decoupled_weight_decay=True, **settings)
        super().__init__(radam, Project(wd_ratio), invariances, delta=delta)


class MuonP(Radial):
    """Muon with the paper's projection, for matrices only: `torch.optim.Muon` under `Project`.

    Args:
        params: Matrices.
        lr: Learning rate.
        weight_decay: Decoupled decay.
        momentum: Muon's.
        wd_ratio: Decay of projected weights relative to that of the others.
        delta: Threshold of the paper's test.
        invariances: As in `Radial`; by default the paper's test decides.
        **base: Further arguments of `torch.optim.Muon`.

    Examples:
        >>> w = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = MuonP([w], lr=0.1, weight_decay=0.0)
        >>> w.grad = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> optimizer.step()
        >>> w.diagonal().tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        *,
        wd_ratio: float = 0.1,
        delta: float = 0.1,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        muon = torch.optim.Muon(params, lr=lr, weight_decay=weight_decay, momentum=momentum, **base)
        super().__init__(muon, Project(wd_ratio), invariances, delta=delta)


class LionP(Radial):
    """Lion with the paper's projection: `timm.optim.Lion` under `Project`. It needs the package `timm`.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate.
        betas: Decay rates of Lion.
        weight_decay: Decoupled decay.
        wd_ratio: Decay of projected weights relative to that of the others.
        delta: Threshold of the paper's test.
        invariances: As in `Radial`; by default the paper's test decides.
        **base: Further arguments of `timm.optim.Lion`.

    Raises:
        ModuleNotFoundError: timm is not installed.

    Examples:
        >>> w = torch.nn.Parameter(torch.ones(1, 2))
        >>> LionP([w]).base.defaults["betas"]  # doctest: +SKIP
        (0.9, 0.99)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: Betas = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        wd_ratio: float = 0.1,
        delta: float = 0.1,
        invariances: Any = None,
        **base: Any,
    ) -> None:
        try:
            lion = import_module("timm.optim").Lion
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("LionP needs Lion of the package timm: pip install timm") from error
        made = lion(params, lr=lr, betas=betas, weight_decay=weight_decay, **base)
        super().__init__(made, Project(wd_ratio), invariances, delta=delta)

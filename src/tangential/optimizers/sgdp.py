"""SGDP: SGD with momentum with the radial part of its steps projected out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tangential.algorithm import Sgd
from tangential.blocks import BlocksSetting
from tangential.optimizers.base import Params, Projected
from tangential.optimizers.known_origins import OF_SGDP
from tangential.optimizers.settings import precise, scalar


class SGDP(Projected):
    """SGD with momentum that takes the radial part out of its steps (arXiv 2006.08217, Algorithm 1).

    A weight followed by a normalisation is scale-invariant: its gradient has no radial part, yet with momentum its
    steps do, and that part only makes the weight longer and every later step smaller. SGDP projects it out.

    Swapping from `torch.optim.SGD`: keep `lr`, `momentum` and `weight_decay`. The decay is decoupled here and amounts
    to SGD's in the long run; projected weights decay by `wd_ratio`, a tenth. `load_state_dict` takes a running SGD's
    state. Groups with `blocks=None` are not projected.

    The first nine arguments are, in order and defaults, those of the authors' package `adamp`, so that swapping the
    import is enough. The momentum buffer is never projected, as in the paper; the authors' code projects it by accident
    when `nesterov` is off.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate; a float, or a 0-d tensor.
        momentum: In [0, 1).
        dampening: Acts from the first step on, unlike in `torch.optim.SGD`.
        weight_decay: Decoupled decay, a float or a 0-d tensor: each step shrinks a weight by
            `lr * weight_decay / (1 - momentum)`.
        nesterov: Use Nesterov momentum.
        eps: Smallest norm that is divided by.
        delta: The cosine test fires below `delta / sqrt(elements of a channel, or of the weight)`.
        wd_ratio: Decay of projected weights relative to that of the others, in [0, 1].
        blocks: Which parts of a weight are projected: "cosine", what the paper's test finds at every step; "sticky",
            what it found in most of the first 20 steps; a `Blocks`, these parts always; None, nothing. Usually set per
            group.
        maximize: Ascend instead of descend.
        foreach: True steps many tensors at once, False one at a time, None chooses.
        fused: True requires the kernel (float32, bfloat16, float16; on a CPU or CUDA), False excludes it, None uses
            it where it fits. The property `backend` names what runs.
        capturable: Keep step counts on the device of the weights, for CUDA graphs. A graph holds `lr` and
            `weight_decay` as they were captured, unless they are tensors on the device.
        differentiable: Record the step for autograd; needs the one-at-a-time backend.
        compensation: What keeps steps of half-precision weights from being rounded away: "kahan", 16 bits a weight in
            the state, beside which the weight is as good as float32; "stochastic", rounding at random that is exact on
            average, without memory and without the kernel; None, nothing; "auto", "kahan" for bfloat16 alone, unless it
            is spread over ranks (DTensors).

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of range, or a parameter that cannot be stepped.

    Examples:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> optimizer = SGDP(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
    """

    __module__ = "tangential.optimizers"  # the path that settings and pickles record: of the package, not of this file

    _moments = Sgd.names
    _origins = OF_SGDP

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float | Tensor = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        blocks: BlocksSetting = "cosine",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        compensation: str | None = "auto",
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            eps=eps,
            delta=delta,
            wd_ratio=wd_ratio,
            blocks=blocks,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            capturable=capturable,
            differentiable=differentiable,
            compensation=compensation,
        )
        super().__init__(params, defaults)

    def _rule(self, group: dict[str, Any], t: Any) -> Sgd:
        momentum, dampening = scalar(group["momentum"]), scalar(group["dampening"])
        return Sgd(momentum=momentum, dampening=dampening, nesterov=group["nesterov"])

    def _decay(self, group: dict[str, Any]) -> float | Tensor:
        # what coupled L2 decay would add up to over the memory of the momentum
        return precise(group["weight_decay"]) / (1 - scalar(group["momentum"]))

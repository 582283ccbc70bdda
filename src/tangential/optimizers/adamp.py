"""AdamP: AdamW with the radial part of its steps projected out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tangential.algorithm import Adam
from tangential.blocks import BlocksSetting
from tangential.optimizers.base import Params, Projected
from tangential.optimizers.known_origins import OF_ADAMP
from tangential.optimizers.settings import precise, scalar


class AdamP(Projected):
    """AdamW that takes the radial part out of its steps (arXiv 2006.08217, Algorithm 2).

    A weight followed by a normalisation is scale-invariant: only its direction matters, and a step along the weight
    only makes it longer and every later step smaller. AdamP projects that part out, and is AdamW everywhere else.

    Swapping from AdamW: keep `lr` and `weight_decay`, and write the decay down, since AdamW's default is 0.01.
    Projected weights decay by `wd_ratio`, a tenth. `load_state_dict` takes a running AdamW's state. The paper's decay
    `wd` for Adam is `weight_decay=wd / lr` here. Groups with `blocks=None` are stepped as by AdamW.

    The first eight arguments are, in order and defaults, those of the authors' package `adamp`, so that swapping the
    import is enough.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate; a float, or a 0-d tensor.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: Added to the root of the second moment, and the smallest norm that is divided by.
        weight_decay: Decoupled decay, a float or a 0-d tensor: each step shrinks a weight by
            `lr * weight_decay`.
        delta: The cosine test fires below `delta / sqrt(elements of a channel, or of the weight)`.
        wd_ratio: Decay of projected weights relative to that of the others, in [0, 1].
        nesterov: Use Nesterov momentum.
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
        >>> optimizer = AdamP(model.parameters(), lr=1e-3, weight_decay=1e-2)
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
    """

    __module__ = "tangential.optimizers"  # the path that settings and pickles record: of the package, not of this file

    _moments = Adam.names
    _origins = OF_ADAMP

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | Tensor = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
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
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            delta=delta,
            wd_ratio=wd_ratio,
            nesterov=nesterov,
            blocks=blocks,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            capturable=capturable,
            differentiable=differentiable,
            compensation=compensation,
        )
        super().__init__(params, defaults)

    def _rule(self, group: dict[str, Any], t: Any) -> Adam:
        betas = scalar(group["betas"][0]), scalar(group["betas"][1])
        return Adam(t=t, betas=betas, eps=scalar(group["eps"]), nesterov=group["nesterov"])

    def _decay(self, group: dict[str, Any]) -> float | Tensor:
        return precise(group["weight_decay"])

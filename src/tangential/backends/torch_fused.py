"""torch's fused AdamW and SGD as arithmetic: moments and direction on a CPU in one pass over memory.

A fused step on a scratch of zeros leaves `-lr * u` in it, and the moments written. `torch._fused_adamw_` and
`torch._fused_sgd_` have no public name, so nothing rests on them: each is used only if it is there and gave, once, what
`algorithm` gives, on a few numbers.
"""

# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tangential.algorithm import Adam, Rule, Sgd
from tangential.backends.buckets import Bucket
from tangential.backends.opmath import opmath_dtype
from tangential.backends.tensor_list import TensorList


def knows(bucket: Bucket) -> bool:
    """Whether torch's fused optimizers can write this step, for tensors that all lie alike and without gaps."""
    rule, projection = bucket.rule(bucket.t), bucket.projection
    dtype = opmath_dtype(bucket.weights[0].dtype)
    alike = all(x.dtype == dtype for moment in bucket.moments for x in moment)
    return alike and projection.lr > 0 and _has(rule) and _right(type(rule), rule.nesterov, dtype)


def descend(bucket: Bucket) -> None:
    """Take the whole step of weights that are not projected, in float32 or float64."""
    projection = bucket.projection
    decay = projection.decay
    rule = bucket.rule(bucket.t)
    if not isinstance(rule, Adam):  # torch's SGD decays through the momentum
        torch._foreach_mul_(bucket.weights, projection.plain)
        decay = 0.0
    _fused(rule, bucket.weights, bucket.grads, bucket.moments, lr=projection.lr, decay=decay, maximize=bucket.ascend)


def advance(bucket: Bucket) -> TensorList:
    """Write this step's moments; returns the direction."""
    lr = bucket.projection.lr
    change = _zeros(bucket.moments[0])
    _fused(bucket.rule(bucket.t), change, bucket.grads, bucket.moments, lr=lr)
    return TensorList(change, -1 / lr)


def _fused(
    rule: Rule,
    weights: list[Tensor],
    grads: list[Tensor],
    moments: tuple[list[Tensor], ...],
    *,
    lr: float,
    decay: float = 0.0,
    maximize: bool = False,
) -> None:
    if isinstance(rule, Adam):
        first, second = moments
        torch._fused_adamw_(
            weights,
            grads,
            first,
            second,
            [],
            [_count(rule.t)] * len(weights),
            lr=lr,
            beta1=rule.betas[0],
            beta2=rule.betas[1],
            weight_decay=decay,
            eps=rule.eps,
            amsgrad=False,
            maximize=maximize,
        )
    else:
        torch._fused_sgd_(
            weights,
            grads,
            *moments,
            weight_decay=decay,
            momentum=rule.momentum,
            lr=lr,
            dampening=rule.dampening,
            nesterov=rule.nesterov,
            maximize=maximize,
            is_first_step=False,
        )


def _zeros(like: list[Tensor]) -> list[Tensor]:
    """Tensors of zeros, next to each other."""
    if len(like) == 1:
        return [torch.zeros_like(like[0], memory_format=torch.contiguous_format)]
    sizes = [x.numel() for x in like]
    together = torch.zeros(sum(sizes), dtype=like[0].dtype, device=like[0].device)
    return [x.view(y.shape) for x, y in zip(together.split(sizes), like, strict=True)]


@lru_cache(maxsize=1)
def _count(t: float) -> Tensor:
    """The step count as a tensor, as torch's function takes it."""
    with torch.inference_mode(False):  # it is kept
        return torch.tensor(t, dtype=torch.float32, device="cpu")


def _has(rule: Rule) -> bool:
    """Whether torch has such a rule: its Adam knows no Nesterov, its SGD keeps no moment where momentum is 0."""
    return not rule.nesterov if isinstance(rule, Adam) else rule.momentum != 0


@lru_cache(maxsize=8)
def _right(rule: type[Rule], nesterov: bool, dtype: torch.dtype) -> bool:
    """Whether the fused step is there and equal to the definition, tried on a few numbers."""
    if rule is Adam:
        tried = Adam(t=3.0, betas=(0.8, 0.9), eps=1e-3, nesterov=nesterov)
    else:
        tried = Sgd(momentum=0.8, dampening=0.3, nesterov=nesterov)
    w, g, *moments = torch.linspace(0.1, 4.0, 39 * 4, dtype=dtype, device="cpu").view(4, 39)[: 2 + len(tried.names)]
    new = tried.advance(g, *moments)
    expected = (w - 0.5 * tried.direction(g, *new), *new)
    try:
        _fused(tried, [w], [g], tuple([moment] for moment in moments), lr=0.5)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(torch.allclose(x, y, rtol=1e-5) for x, y in zip((w, *moments), expected, strict=True))

"""What the kernels for CPU and CUDA share: which parameters they take, how those are cut, and their settings.

Both kernels face the same difficulty. The paper's test needs sums over a whole weight before any of it may move, and to
take them first would be a second pass over memory. So a kernel moves a weight as the last step's decision predicts,
takes the sums on the way, decides, and moves again what was predicted wrong. The decision of each weight is kept beside
its moments, under `DECISION`: a resumed run predicts what the uninterrupted one would have, and a user can read which
weights are projected now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Adam
from tangential.backends.buckets import projected
from tangential.backends.group_step import GroupStep
from tangential.backends.remainders import rounds_at_random
from tangential.backends.tensor_checks import PLAIN, holds_memory
from tangential.blocks import Blocks
from tangential.kernels.cpu import why_missing
from tangential.kernels.plan import Form, Run, form, runs

DECISION = "projected"
"""Key of the state that holds the last decision of the paper's test: 0 not projected, 1 by channel, 2 by layer, `()`
uint8."""

CUDA = "cuda"
"""Type of the devices whose weights go to Triton. Tests set it to "cpu", under Triton's interpreter."""

STORAGE = {
    (torch.float32, False, torch.float32): 0,
    (torch.float16, False, torch.float32): 1,
    (torch.bfloat16, False, torch.float32): 2,
    (torch.bfloat16, False, torch.bfloat16): 3,
    (torch.float16, True, torch.float32): 4,
    (torch.bfloat16, True, torch.float32): 5,
    (torch.bfloat16, True, torch.bfloat16): 6,
}
"""Numbers of what the kernels know, as `c/step.c` orders them: the dtype of a weight, whether it has a remainder, and
the dtype of its moments."""

States = MutableMapping[Tensor, dict[str, Any]]
"""The state of an optimizer: that of every parameter by name."""


def cuda_missing(p: Tensor) -> str | None:
    """Reason for which there is no kernel on a weight's CUDA device, or None. Only this imports anything of CUDA."""
    from tangential.kernels.cuda import launch

    return launch.why_missing(p.device)


def reason_against(p: Tensor) -> str | None:
    """Reason for which a kernel can never step this parameter, or None. A layout is none: foreach steps those few."""
    if type(p) not in PLAIN:
        return f"a parameter is a {type(p).__name__}, and a kernel knows the memory of plain tensors only"
    if p.device.type not in ("cpu", CUDA):
        return f"a parameter is on {p.device}, and the kernel runs on a CPU or on CUDA"
    if p.dtype not in {weight for weight, _, _ in STORAGE}:
        return f"a parameter is {p.dtype}, and the kernel steps float32, bfloat16 and float16"
    return cuda_missing(p) if p.device.type == CUDA else why_missing()


def require_kernel(p: Tensor) -> None:
    """Raise ValueError for a parameter that `fused=True` cannot be honoured for."""
    reason = reason_against(p)
    if reason:
        raise ValueError(f"fused=True, but {reason}; leave it None, and each parameter gets the fastest way there is")


def takes(p: Tensor, compensation: str | None) -> bool:
    """Whether a kernel steps this parameter, if its gradient and moments lie as it does."""
    known = reason_against(p) is None and not rounds_at_random(p.dtype, compensation)
    return known and p.numel() > 0 and form(p.shape, p.stride(), 0) is not None


def storage(group_step: GroupStep, i: int) -> int | None:
    """Number of the dtypes of a parameter's tensors in `STORAGE`; None unless all are plain tensors of one device.

    Nor may one be lazily negated, since its memory holds other values. The device of the step count is not looked at:
    the CUDA kernel moves it.
    """
    w, g = group_step.weights[i], group_step.grads[i]
    others = (g, *written(group_step, i))
    plain = all(type(x) in PLAIN and x.device == w.device and not x.is_neg() for x in others)
    dtypes, remainder = {m[i].dtype for m in group_step.moments}, group_step.remainder(i)
    if not plain or g.dtype != w.dtype or len(dtypes) > 1 or not _countable(group_step, i):
        return None
    if rounds_at_random(w.dtype, group_step.compensation) or (remainder is not None and remainder.dtype != torch.int16):
        return None
    return STORAGE.get((w.dtype, remainder is not None, dtypes.pop()))


def _countable(group_step: GroupStep, i: int) -> bool:
    """Whether the step count is one float32, and the votes, if any, two int32, and neither lazily negated."""
    found = [(group_step.steps[i], torch.float32, ()), *((x[i], torch.int32, (2,)) for x in (group_step.votes,) if x)]
    return all(
        x.dtype == dtype and x.shape == shape and x.is_contiguous() and holds_memory(x) and not x.is_neg()
        for x, dtype, shape in found
    )


def written(group_step: GroupStep, i: int) -> tuple[Tensor, ...]:
    """The tensors of a parameter that a step writes, but for its step count and decision."""
    remainder = group_step.remainder(i)
    own = (group_step.weights[i], *(moment[i] for moment in group_step.moments))
    return own if remainder is None else (*own, remainder)


def span(x: Tensor) -> tuple[int, int]:
    """First address of a dense tensor, and the last plus one."""
    return x.data_ptr(), x.data_ptr() + x.numel() * x.itemsize


def form_of(group_step: GroupStep, i: int) -> Form | None:
    """How a parameter, its gradient and its moments all lie in memory; None if not alike, with gaps, or empty."""
    w, *others = (*written(group_step, i), group_step.grads[i])
    if w.numel() == 0 or any(x.shape != w.shape for x in others):
        return None
    own, *strides = ([s for s, n in zip(x.stride(), w.shape, strict=True) if n > 1] for x in (w, *others))
    if any(x != own for x in strides) or not all(map(holds_memory, (w, *others))):
        return None
    return form(w.shape, w.stride(), group_step.blocks.dim if isinstance(group_step.blocks, Blocks) else 0)


def runs_of(group_step: GroupStep, i: int, seen: Form, **place: int) -> Iterator[Run]:
    """The runs of a parameter of this form."""
    w = group_step.weights[i]
    blocks = group_step.blocks if projected(w, group_step.blocks) else None
    for mode, offset, cut in runs(w.shape, seen, blocks):
        stride = seen.rows * seen.cols
        yield Run(mode=mode, offset=offset, slabs=cut.slabs, stride=stride, rows=cut.rows, cols=cut.cols, **place)


def keep_decision(group_step: GroupStep, i: int, states: States) -> None:
    """Make sure that a weight under the paper's test has a decision on its device; at first, that of no projection."""
    w, own = group_step.weights[i], states[group_step.weights[i]]
    if isinstance(group_step.blocks, str) and w.ndim > 1:
        last = own.get(DECISION)
        if last is None or last.numel() != 1 or not holds_memory(last):
            last = torch.zeros((), dtype=torch.uint8, device=w.device)
        group_step.decisions[i] = own[DECISION] = last.to(w.device, torch.uint8)


def settings_of(group_step: GroupStep, number: Callable[[Any], float] = float) -> tuple[float, ...]:
    """The fields of `group` in `c/table.h` that both kernels read; `number` reads those that may be tensors."""
    rule, projection = group_step.rule(1.0), group_step.projection
    adam = isinstance(rule, Adam)
    betas = rule.betas if adam else (rule.momentum, rule.dampening)
    lr, decay = number(projection.lr), number(projection.decay)
    norms = (projection.delta, projection.eps, projection.wd_ratio)
    return (not adam, lr, decay, *norms, *betas, rule.nesterov, -1.0 if group_step.maximize else 1.0)

"""The kernel for all parameters of an optimizer on a CPU in one call; `launched` has the same for CUDA.

The paper's test needs sums over a weight before it may move. The kernel does not wait for them: it moves a weight as
the last step's decision guesses and repairs it if the guess was wrong, so a step costs what torch's fused AdamW costs.
The decision is kept beside the moments, under `DECISION`: a resumed run guesses as the uninterrupted one would, and
whoever wants to know which weights are projected now can read it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, MutableMapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential.algorithm import Adam
from tangential.backends.buckets import GroupStep, projected
from tangential.backends.fingerprint import Fingerprint, addresses, joined
from tangential.backends.sticky import VOTING_STEPS
from tangential.blocks import Blocks
from tangential.kernels.cpu import Call, library, warn_if_missing, why_missing
from tangential.kernels.cuda import launch
from tangential.kernels.plan import Form, Plan, Run, form, runs

DECISION = "projected"
"""Key of the state that holds what the paper's test said last: 0 not projected, 1 by channel, 2 by layer (uint8)."""

STORAGE = {
    (torch.float32, torch.float32): 0,
    (torch.float16, torch.float32): 1,
    (torch.bfloat16, torch.float32): 2,
    (torch.bfloat16, torch.bfloat16): 3,
}
"""Numbers of the pairs of weight and moment dtypes that the kernel knows, as `c/step.c` orders them."""

T = TypeVar("T")
States = MutableMapping[Tensor, dict[str, Any]]


def reason_against(p: Tensor) -> str | None:
    """Why the kernel can never step this parameter, or None. A layout is no reason: foreach steps those few."""
    if type(p) not in (Tensor, Parameter):
        return f"a parameter is a {type(p).__name__}, and a kernel knows the memory of plain tensors only"
    if p.device.type not in ("cpu", launch.DEVICE):
        return f"a parameter is on {p.device}, and the kernel runs on a CPU or on CUDA"
    if p.dtype not in {weight for weight, _ in STORAGE}:
        return f"a parameter is {p.dtype}, and the kernel steps float32, bfloat16 and float16"
    return launch.why_missing(p.device) if p.device.type == launch.DEVICE else why_missing()


def require_kernel(p: Tensor) -> None:
    """Raise ValueError for a parameter that `fused=True` cannot be honoured for."""
    reason = reason_against(p)
    if reason:
        raise ValueError(f"fused=True, but {reason}; leave it None, and each parameter gets the fastest way there is")


def takes(p: Tensor) -> bool:
    """Whether the kernel steps this parameter, if its gradient and moments lie as it does."""
    return reason_against(p) is None and p.numel() > 0 and form(p.shape, p.stride(), 0) is not None


class Fused:
    """What one optimizer's parameters look like to the kernel; worked out again only when they look different."""

    def __init__(self) -> None:
        self._look: Fingerprint | None = None
        self._call: Call | None = None
        self._addresses = array("q")
        self._taken: list[list[int]] = []
        self._left: list[list[int]] = []

    def step(self, group_steps: Sequence[GroupStep], states: States) -> list[GroupStep]:
        """Step what the kernel can, and return the rest.

        Args:
            group_steps: One per parameter group.
            states: The optimizer's state of every parameter; gets a `DECISION` where the paper's test is asked.

        Raises:
            ValueError: A parameter that the kernel was demanded for and can never step; nothing has moved then.
        """
        if self._look is None or not self._look.holds(group_steps):
            self._look = None
            self._plan(group_steps, states)
            self._look = Fingerprint(group_steps)
        if self._call is not None:
            grads = addresses(self._of_taken([lot.grads for lot in group_steps]))
            self._addresses[len(grads) : 2 * len(grads)] = array("q", grads)
            settings = ((*settings_of(lot, float(lot.projection.lr)), VOTING_STEPS) for lot in group_steps)
            self._call(self._addresses, array("d", chain.from_iterable(settings)))
            torch.autograd.graph.increment_version(self._of_taken([lot.weights for lot in group_steps]))
        return [lot.only(at) for lot, at in zip(group_steps, self._left, strict=True) if at]

    def _plan(self, group_steps: Sequence[GroupStep], states: States) -> None:
        """Sort the parameters into those the kernel takes and the others, and cut the former."""
        self._taken, self._left = [[] for _ in group_steps], [[] for _ in group_steps]
        cut: list[Run] = []
        count = 0
        for group, lot in enumerate(group_steps):
            for i, w in enumerate(lot.weights):
                storage, seen = _storage(lot, i), form_of(lot, i)
                if storage is None or seen is None or library() is None:
                    if lot.demanded:
                        require_kernel(w)
                    if storage is not None:
                        warn_if_missing()
                    self._left[group].append(i)
                    continue
                if isinstance(lot.blocks, str) and w.ndim > 1:
                    lot.said[i] = states[w][DECISION] = as_said(states[w].get(DECISION), w.device)
                self._taken[group].append(i)
                cut += runs_of(lot, i, seen, weight=count, group=group, storage=storage)
                count += 1
        self._call = Call(Plan(cut), count) if cut else None
        self._addresses = self._table(group_steps)

    def _table(self, group_steps: Sequence[GroupStep]) -> array[int]:
        """The columns of addresses, in the order of `c/table.h`."""
        table = array("q")
        for column in zip(*map(_columns, group_steps), strict=True):
            table.extend(0 if x is None else x.data_ptr() for x in self._of_taken(column))
        return table

    def _of_taken(self, column: Sequence[Sequence[T]]) -> list[T]:
        """What each group has of the parameters that the kernel takes, one behind the other."""
        return joined(map(_picked, column, self._taken))


def _columns(lot: GroupStep) -> tuple[Sequence[Tensor | None], ...]:
    votes = lot.votes or [None] * len(lot.weights)
    return lot.weights, lot.grads, lot.moments[0], lot.moments[-1], lot.steps, lot.said, votes


def _picked(entries: Sequence[T], at: list[int]) -> Sequence[T]:
    """The entries at these places, which are usually all."""
    return entries if len(at) == len(entries) else [entries[i] for i in at]


def _storage(lot: GroupStep, i: int) -> int | None:
    """The number of the dtypes and devices of a parameter's tensors, or None if the kernel does not know them."""
    w, g, t = lot.weights[i], lot.grads[i], lot.steps[i]
    moments = [moment[i] for moment in lot.moments]
    dtypes = {m.dtype for m in moments}
    counts = (t, lot.votes[i]) if lot.votes else (t,)
    near = all(x.device.type == "cpu" for x in (w, g, *counts, *moments))
    plain = all(type(x) in (Tensor, Parameter) for x in (w, g, *counts, *moments))
    if not near or not plain or g.dtype != w.dtype or len(dtypes) > 1 or t.dtype != torch.float32:
        return None
    return STORAGE.get((w.dtype, dtypes.pop()))


def form_of(lot: GroupStep, i: int) -> Form | None:
    """How a parameter and its gradient and moments all lie in memory, or None if not alike, with gaps, or empty."""
    w = lot.weights[i]
    places = [[s for s, n in zip(x[i].stride(), w.shape, strict=True) if n > 1] for x in (lot.grads, *lot.moments)]
    own = [s for s, n in zip(w.stride(), w.shape, strict=True) if n > 1]
    alike = all(x[i].shape == w.shape for x in (lot.grads, *lot.moments))
    if w.numel() == 0 or not alike or any(place != own for place in places):
        return None
    return form(w.shape, w.stride(), lot.blocks.dim if isinstance(lot.blocks, Blocks) else 0)


def runs_of(lot: GroupStep, i: int, seen: Form, **place: int) -> Iterator[Run]:
    """The runs of a parameter that lies so."""
    w = lot.weights[i]
    blocks = lot.blocks if projected(w, lot.blocks) else None
    for mode, offset, cut in runs(w.shape, seen, blocks):
        stride = seen.rows * seen.cols
        yield Run(mode=mode, offset=offset, slabs=cut.slabs, stride=stride, rows=cut.rows, cols=cut.cols, **place)


def as_said(said: Tensor | None, device: torch.device) -> Tensor:
    """What the test said of a weight last; nothing was projected before the first step."""
    return torch.zeros((), dtype=torch.uint8, device=device) if said is None else said.to(device, torch.uint8)


def settings_of(lot: GroupStep, lr: float) -> tuple[float, ...]:
    """The fields of `group` in `c/table.h` that both kernels read."""
    rule, how = lot.rule(1.0), lot.projection
    betas = rule.betas if isinstance(rule, Adam) else (rule.momentum, rule.dampening)
    sign = -1.0 if lot.maximize else 1.0
    return (not isinstance(rule, Adam), lr, how.decay, how.delta, how.eps, how.wd_ratio, *betas, rule.nesterov, sign)

"""The tensors of one parameter group in a step, as parallel lists: entry `i` of each belongs to weight `i`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Projection, Rule
from tangential.backends.buckets import Bucket, projected, real
from tangential.backends.modes import recording
from tangential.backends.opmath import opmath_dtype
from tangential.backends.remainders import compensates, rounds_at_random
from tangential.backends.tensor_checks import check_tensors
from tangential.blocks import Blocks


@dataclass(kw_only=True, eq=False)  # frozen ones take four times as long to make, and there is one a group and step
class GroupStep:
    """The parameters of one group that have gradients, in one step: any devices, dtypes and step counts.

    Args:
        weights: The parameters.
        grads: Their gradients, read and never written.
        moments: One list per moment of the rule, in its order.
        steps: The steps each has taken.
        votes: Counts of each view's steps among the first, `(2,)` each, where their majority decides; else empty.
        decisions: The last decision of the paper's test on each, `()`, where a kernel keeps one; None elsewhere.
        remainders: What half-precision weights are short of their masters; a weight that has none stands for itself.
            Empty where none has.
        compensation: How steps of half-precision weights are kept from being rounded away, as in a group.
        backend: The one that is meant to step them.
        demanded: Whether the group asks for the kernel by name (`fused=True`).
        blocks: "cosine" (the paper's test), a `Blocks`, or None.
        rule: From a step count to the rule of this step.
        projection: The settings of lines 6 to 9.
        maximize: Ascend instead of descend.
        capturable: Step counts stay on the device.
    """

    weights: list[Tensor]
    grads: list[Tensor]
    moments: tuple[list[Tensor], ...]
    steps: list[Tensor]
    votes: list[Tensor]
    decisions: list[Tensor | None]
    remainders: list[Tensor]
    compensation: str | None
    backend: str
    demanded: bool
    blocks: Blocks | str | None
    rule: Callable[[Any], Rule]
    projection: Projection
    maximize: bool
    capturable: bool

    def only(self, at: list[int]) -> GroupStep:
        """The parameters at these places."""
        if len(at) == len(self.weights):
            return self
        columns = (self.weights, self.grads, self.steps, self.decisions)
        weights, grads, steps, decisions = ([x[i] for i in at] for x in columns)
        moments = tuple([x[i] for i in at] for x in self.moments)
        votes, remainders = ([x[i] for i in at] if x else [] for x in (self.votes, self.remainders))
        return replace(
            self,
            weights=weights,
            grads=grads,
            steps=steps,
            decisions=decisions,
            moments=moments,
            votes=votes,
            remainders=remainders,
        )

    def remainder(self, i: int) -> Tensor | None:
        """What a weight is short of its master, or None."""
        if not self.remainders or not compensates(self.weights[i].dtype, self.compensation):
            return None
        return None if self.remainders[i] is self.weights[i] else self.remainders[i]

    def without_lazy_bits(self) -> tuple[GroupStep, list[tuple[Tensor, Tensor]]]:
        """The same with memory that holds the tensors' values, and `(tensor, copy)` of what has to be copied back."""
        if torch.compiler.is_compiling():  # which resolves them itself, or refuses
            return self, []
        written = (self.weights, self.remainders, *self.moments)
        tensors = list(chain(self.grads, *written))
        if not any(map(Tensor.is_neg, tensors)) and not any(map(Tensor.is_conj, tensors)):
            return self, []
        of = {id(x): (x, resolved(x)) for x in chain(*written) if is_lazy(x)}
        weights, remainders, *moments = ([of.get(id(x), (x, x))[1] for x in column] for column in written)
        grads = list(map(resolved, self.grads))
        plain = replace(self, weights=weights, grads=grads, remainders=remainders, moments=tuple(moments))
        return plain, list(of.values())

    def check(self) -> None:
        """Raise ValueError for parameters that do not fit their gradient, state, or the memory these lie in."""
        check_tensors(self)

    def buckets(self) -> list[Bucket]:
        """Add 1 to the step counts, and part the parameters into those that can step together, without empty ones."""
        return [bucket for _, bucket in self.placed_buckets() if bucket.weights[0].numel()]

    def placed_buckets(self) -> list[tuple[list[int], Bucket]]:
        """The same, and buckets of empty parameters; each behind the places of its parameters."""
        if not self.weights:
            return []
        torch._foreach_add_(self.steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        together: dict[Any, list[int]] = {}
        taken = counts(self.steps, self.capturable)
        for i, (p, t) in enumerate(zip(self.weights, taken, strict=True)):
            key = (p.device, p.dtype, t if isinstance(t, float) else None, projected(p, self.blocks), p.numel() > 0)
            together.setdefault(key, []).append(i)
        return [(at, self._bucket(at, taken, key[2], key[3])) for key, at in together.items()]

    def _bucket(self, at: list[int], taken: list[Any], t: float | None, is_projected: bool) -> Bucket:
        """The parameters at these places; `t` is the step count of all of them, where that is a number."""
        return Bucket(
            weights=[real(self.weights[i]) for i in at],
            grads=[real(_as_wide(self.grads[i], self.weights[i])) for i in at],
            ascend=self.maximize,
            moments=tuple([real(moment[i]) for i in at] for moment in self.moments),
            t=[taken[i] for i in at] if t is None else t,
            blocks=self.blocks if is_projected else None,
            rule=self.rule,
            projection=self.projection,
            votes=[self.votes[i] for i in at] if self.votes and is_projected else [],
            remainders=[x for i in at if (x := self.remainder(i)) is not None],
            stochastic=rounds_at_random(self.weights[at[0]].dtype, self.compensation),
        )


def counts(steps: list[Tensor], capturable: bool) -> list[Any]:
    """Step counts as numbers; as float64 tensors where one lives on a device, or a compiler must see no constants."""
    if capturable or recording() or any(not step.is_cpu for step in steps):
        return [step.double() for step in steps]
    return torch.stack(steps).tolist()


def _as_wide(g: Tensor, w: Tensor) -> Tensor:
    """A gradient in the dtype of its weight; one of another dtype (`Tensor.grad_dtype`) in that of the arithmetic."""
    g = g.resolve_conj() if g.is_complex() else g
    return g if g.dtype == w.dtype else g.to(opmath_dtype(w.dtype))


def is_lazy(x: Tensor) -> bool:
    """Whether the memory of a tensor holds other values than the tensor: negated, or conjugated."""
    return x.is_neg() or x.is_conj()


def resolved(x: Tensor) -> Tensor:
    """The tensor itself, or a copy whose memory holds its values."""
    return x.resolve_conj().resolve_neg()

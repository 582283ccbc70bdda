"""Arguments of the backends: the tensors of one parameter group in a step, and buckets of those that step together.

    parameter group -> GroupStep (any devices, dtypes, step counts) -> kernel
                                 `buckets` -> Bucket (one device, dtype, step count; real tensors) -> foreach, eager

Both are parallel lists: entry `i` of each belongs to weight `i`. Nothing is copied on the way; complex tensors become
views of their real pairs, and a bucket's lists are the very tensors that the step writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Projection, Rule
from tangential.backends.modes import recording
from tangential.backends.opmath import HALF, opmath_dtype, to_opmath
from tangential.backends.sticky import Votes
from tangential.blocks import Blocks

MOMENT_DTYPES = {torch.float32, torch.float64, torch.bfloat16}
"""Dtypes of real moments. The squares of usual gradients are 0 in float16."""

_layout, _dtype = attrgetter("layout"), attrgetter("dtype")


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Weights that take one step together.

    Args:
        weights: Real tensors of one device and dtype, none of them empty.
        grads: Their gradients, read and never written.
        ascend: Whether steps go up the gradients (`maximize`).
        moments: One list per moment of the rule, in its order; float32 at least.
        t: The step count all of them have, or one float64 0-d tensor each.
        blocks: "cosine" (the paper's test), a `Blocks`, or None for weights that are not projected.
        rule: From a step count to the rule of this step.
        projection: The settings of lines 6 to 9.
        votes: Counts of each view's steps among the first, `(2,)` each, where their majority decides; else empty.
    """

    weights: list[Tensor]
    grads: list[Tensor]
    ascend: bool
    moments: tuple[list[Tensor], ...]
    t: float | list[Tensor]
    blocks: Blocks | str | None
    rule: Callable[[Any], Rule]
    projection: Projection
    votes: list[Tensor]

    def only(self, at: Sequence[int]) -> Bucket:
        """The weights at these places."""
        if len(at) == len(self.weights):
            return self
        weights, grads = ([x[i] for i in at] for x in (self.weights, self.grads))
        moments = tuple([moment[i] for i in at] for moment in self.moments)
        t = [self.t[i] for i in at] if isinstance(self.t, list) else self.t
        votes = [self.votes[i] for i in at] if self.votes else []
        return replace(self, weights=weights, grads=grads, moments=moments, t=t, votes=votes)

    def prepared(self) -> Bucket:
        """The same with gradients in the dtype of the arithmetic (opmath), negated under `maximize`."""
        if not self.ascend and not any(g.dtype in HALF for g in self.grads):
            return self
        grads = [to_opmath(-g if self.ascend else g) for g in self.grads]
        return replace(self, grads=grads, ascend=False)

    @property
    def ballot(self) -> Votes | None:
        """The votes on all weights, if their majority decides."""
        return Votes(self.votes, self.t) if self.votes else None

    @property
    def dim(self) -> int:
        """The dimension along which sums are kept: that of the blocks, or the output channels."""
        return self.blocks.dim if isinstance(self.blocks, Blocks) else 0


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
        votes = [self.votes[i] for i in at] if self.votes else []
        return replace(
            self, weights=weights, grads=grads, steps=steps, decisions=decisions, moments=moments, votes=votes
        )

    def without_lazy_bits(self) -> tuple[GroupStep, list[tuple[Tensor, Tensor]]]:
        """The same with memory that holds the tensors' values, and `(tensor, copy)` of what has to be copied back."""
        if torch.compiler.is_compiling():  # which resolves them itself, or refuses
            return self, []
        tensors = list(chain(self.weights, self.grads, *self.moments))
        if not any(map(Tensor.is_neg, tensors)) and not any(map(Tensor.is_conj, tensors)):
            return self, []
        copies = [(x, resolved(x)) for x in chain(self.weights, *self.moments) if is_lazy(x)]
        of = {id(x): copy for x, copy in copies}
        weights, *moments = ([of.get(id(x), x) for x in column] for column in (self.weights, *self.moments))
        return replace(self, weights=weights, grads=list(map(resolved, self.grads)), moments=tuple(moments)), copies

    def check(self) -> None:
        """Raise ValueError for parameters that do not fit their gradient, state, or the memory these lie in."""
        if recording() or not self._fits():
            for i in range(len(self.weights)):
                self._check_gradient(i)
                self._check_shape(i)

    def _fits(self) -> bool:
        """Whether all tensors are contiguous, whole and of their weight's shape: the usual case, without a loop."""
        sizes = list(map(Tensor.size, self.weights))
        others = (self.grads, *self.moments)
        found = list(chain(self.weights, *others))
        return (
            not self.votes
            and all(map(is_, map(_layout, self.grads), repeat(torch.strided)))
            and all(list(map(Tensor.size, column)) == sizes for column in others)
            and not any(map(Tensor.dim, self.steps))
            and all(map(Tensor.is_floating_point, self.steps))
            and not any(map(Tensor.is_neg, self.steps))
            and {*map(_dtype, chain(*self.moments))} <= MOMENT_DTYPES
            and all(map(Tensor.is_contiguous, found))
            and all(map(holds_memory, chain(self.steps, found)))
        )

    def _check_gradient(self, i: int) -> None:
        """Raise ValueError for a gradient without strides."""
        if self.grads[i].layout != torch.strided:
            raise ValueError(
                f"a {self.grads[i].layout} gradient came for a parameter of shape {tuple(self.weights[i].shape)}: only"
                " dense gradients are allowed. Use nn.Embedding(sparse=False), or give that parameter to"
                " torch.optim.SparseAdam"
            )

    def _check_shape(self, i: int) -> None:
        """Raise ValueError for a parameter that does not fit its gradient, its state, or the memory they lie in."""
        w = self.weights[i]
        moments = [("moment", moment[i]) for moment in self.moments]
        for what, x in (("gradient", self.grads[i]), *moments):
            if x.shape != w.shape:
                raise ValueError(
                    f"a parameter of shape {tuple(w.shape)} has a {what} of shape {tuple(x.shape)}: it was resized, or"
                    " its data replaced. Take new gradients, and resize its state too or delete it (`del"
                    " optimizer.state[parameter]`)"
                )
        for _, x in moments:
            if not (x.is_complex() if w.is_complex() else x.dtype in MOMENT_DTYPES):
                raise ValueError(
                    f"a parameter of {w.dtype} and shape {tuple(w.shape)} has a moment of {x.dtype}, unfit for it:"
                    f" convert it to {opmath_dtype(w.dtype)}"
                )
        if not recording():
            self._check_counts(i)
            self._check_memory(i)

    def _check_counts(self, i: int) -> None:
        """Raise ValueError for a step count that is not one number, or votes that are not two."""
        found = [("step count", self.steps[i], ()), *(("votes", x[i], (2,)) for x in (self.votes,) if x)]
        for what, x, shape in found:
            counts = x.is_floating_point() if shape == () else x.dtype == torch.int32
            if x.shape != shape or not counts or x.is_neg() or not holds_strided(x):
                raise ValueError(
                    f"the {what} of a parameter of shape {tuple(self.weights[i].shape)} came as {x.dtype} of shape"
                    f" {tuple(x.shape)} in {x.untyped_storage().nbytes()} bytes, must be the tensor of shape {shape}"
                    " that the optimizer made: load a state dict, or start with fresh state"
                )

    def _check_memory(self, i: int) -> None:
        """Raise ValueError for tensors on a CPU whose storage does not hold them, or those that cannot be written."""
        moments = [("moment", moment[i]) for moment in self.moments]
        for what, x in (("weight", self.weights[i]), ("gradient", self.grads[i]), *moments):
            if x.is_cpu and not holds_strided(x):
                raise ValueError(
                    f"a parameter of shape {tuple(self.weights[i].shape)} has a {what} in a storage of"
                    f" {x.untyped_storage().nbytes()} bytes, which has been resized: compute it again"
                )
            if what != "gradient" and 0 in x.stride() and not x.is_contiguous():
                raise ValueError(
                    f"a parameter of shape {tuple(self.weights[i].shape)} has an expanded {what}, whose elements share"
                    " memory, so it cannot be written: clone it"
                )

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
        )


def holds_memory(x: Tensor) -> bool:
    """Whether the storage of a dense tensor holds all of its elements: it may have been resized."""
    return bool(x.untyped_storage().nbytes() >= (x.storage_offset() + x.numel()) * x.itemsize)


def holds_strided(x: Tensor) -> bool:
    """The same of a tensor of any strides."""
    if x.is_contiguous() or x.numel() == 0:
        return x.numel() == 0 or holds_memory(x)
    last = x.storage_offset() + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    return bool(x.untyped_storage().nbytes() >= (last + 1) * x.itemsize)


def counts(steps: list[Tensor], capturable: bool) -> list[Any]:
    """Step counts as numbers; as float64 tensors where one lives on a device, or a compiler must see no constants."""
    if capturable or recording() or any(not step.is_cpu for step in steps):
        return [step.double() for step in steps]
    return torch.stack(steps).tolist()


def projected(p: Tensor, blocks: Blocks | str | None) -> bool:
    """Whether a parameter may be projected: any with `Blocks`, those of 2 dimensions or more under the paper's test."""
    return isinstance(blocks, Blocks) or (blocks is not None and p.ndim > 1)


def _as_wide(g: Tensor, w: Tensor) -> Tensor:
    """A gradient in the dtype of its weight; one of another dtype (`Tensor.grad_dtype`) in that of the arithmetic."""
    g = g.resolve_conj() if g.is_complex() else g
    return g if g.dtype == w.dtype else g.to(opmath_dtype(w.dtype))


def real(x: Tensor) -> Tensor:
    """A complex tensor as its real pairs, in a last dimension of their own, so that its rows stay its rows."""
    return torch.view_as_real(x) if x.is_complex() else x


def is_lazy(x: Tensor) -> bool:
    """Whether the memory of a tensor holds other values than the tensor: negated, or conjugated."""
    return x.is_neg() or x.is_conj()


def resolved(x: Tensor) -> Tensor:
    """The tensor itself, or a copy whose memory holds its values."""
    return x.resolve_conj().resolve_neg()

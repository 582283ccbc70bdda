"""Buckets: the tensors that step together, one device, dtype and step count.

    parameter group -> GroupStep (any devices, dtypes, step counts) -> kernel
                                 `buckets` -> Bucket (one device, dtype, step count; real tensors) -> foreach, eager

Both are parallel lists: entry `i` of each belongs to weight `i`. Nothing is copied on the way; complex tensors become
views of their real pairs, and a bucket's lists are the very tensors that the step writes.
"""

# pyright: reportPrivateImportUsage=false
# torch._foreach_* has no public name, but is what torch.optim itself and every optimizer library is built on

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Projection, Rule
from tangential.backends.opmath import HALF, to_opmath
from tangential.backends.remainders import master, write, write_stochastic
from tangential.backends.sticky import Votes
from tangential.blocks import Blocks


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
        remainders: What each is short of its master, where half-precision weights are compensated; else empty.
        stochastic: Whether weights are rounded at random, to be exact on average.
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
    remainders: list[Tensor]
    stochastic: bool

    def only(self, at: Sequence[int]) -> Bucket:
        """The weights at these places."""
        if len(at) == len(self.weights):
            return self
        weights, grads = ([x[i] for i in at] for x in (self.weights, self.grads))
        moments = tuple([moment[i] for i in at] for moment in self.moments)
        t = [self.t[i] for i in at] if isinstance(self.t, list) else self.t
        votes, remainders = ([x[i] for i in at] if x else [] for x in (self.votes, self.remainders))
        return replace(self, weights=weights, grads=grads, moments=moments, t=t, votes=votes, remainders=remainders)

    def prepared(self) -> Bucket:
        """The same with gradients in the dtype of the arithmetic (opmath), negated under `maximize`."""
        if not self.ascend and not any(g.dtype in HALF for g in self.grads):
            return self
        grads = [to_opmath(-g if self.ascend else g) for g in self.grads]
        return replace(self, grads=grads, ascend=False)

    def wide(self) -> list[Tensor]:
        """The weights as arithmetic sees them: their masters, or in the opmath dtype; themselves if they have that."""
        if self.remainders:
            return [master(w, rest) for w, rest in zip(self.weights, self.remainders, strict=True)]
        return [to_opmath(w) for w in self.weights]

    def write(self, wide: list[Tensor]) -> None:
        """Write weights that were moved in that dtype."""
        if self.remainders:
            for x, w, rest in zip(wide, self.weights, self.remainders, strict=True):
                write(x.float(), w, rest)  # a learning rate in float64 makes a 0-d weight float64
        elif self.stochastic:
            counts = self.t if isinstance(self.t, list) else [self.t] * len(wide)
            for x, w, t in zip(wide, self.weights, counts, strict=True):
                write_stochastic(x.float(), w, t)
        else:
            torch._foreach_copy_(self.weights, wide)

    @property
    def ballot(self) -> Votes | None:
        """The votes on all weights, if their majority decides."""
        return Votes(self.votes, self.t) if self.votes else None

    @property
    def dim(self) -> int:
        """The dimension along which sums are kept: that of the blocks, or the output channels."""
        return self.blocks.dim if isinstance(self.blocks, Blocks) else 0


def projected(p: Tensor, blocks: Blocks | str | None) -> bool:
    """Whether a parameter may be projected: any with `Blocks`, those of 2 dimensions or more under the paper's test."""
    return isinstance(blocks, Blocks) or (blocks is not None and p.ndim > 1)


def real(x: Tensor) -> Tensor:
    """A complex tensor as its real pairs, in a last dimension of their own, so that its rows stay its rows."""
    return torch.view_as_real(x) if x.is_complex() else x

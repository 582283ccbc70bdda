"""The walk over tensors: what a base's step has made of some weights becomes what a policy wants.

    before, weight (after the base's step), gradient
    row_sums    w.w, w.d, d.d per row, and g.g, w.g for the paper's test; in pieces that fit a cache on a CPU, in lists
                of tensors on a device
    per_block   sums over blocks, and which are treated; for the paper's test the sums of the view that fired
    terms       the policy's, on vectors
    combine     weight <- B weight + k before, one number per row; exactly the base's weight at B = 1 and k = 0

Nothing is read back from a device, and nothing branches on data.
"""

# pyright: reportPrivateImportUsage=false
# torch._foreach_* has no public name, but is what torch.optim itself and every optimizer library is built on

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tangential.algorithm import Projection
from tangential.backends.foreach import dots
from tangential.backends.opmath import HALF, opmath_dtype, to_opmath
from tangential.backends.rows import across, lay_out
from tangential.backends.tensor_list import TensorList
from tangential.blocks import Blocks, chunked_row_dots, chunks
from tangential.radial.parts import Part, vector_dtype

Rows = dict[str, Tensor]
"""Sums by name, one number per row of all weights of a part, or per block."""


@dataclass(frozen=True)
class Tensors:
    """The tensors of a part's step, as real ones.

    Args:
        before: Weights before the base's step.
        weights: The weights, which are written.
        grads: Gradients.
        blocks: Their blocks, or "cosine".
    """

    before: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor]
    blocks: Blocks | str

    @property
    def dim(self) -> int:
        """The dimension that is cut into rows."""
        return self.blocks.dim if isinstance(self.blocks, Blocks) else 0

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""
        return self.weights[0].device

    def rows(self) -> list[int]:
        """Rows of each weight."""
        return [w.shape[self.dim] for w in self.weights]


def tensors_of(part: Part, before: Sequence[Tensor] | None = None) -> Tensors:
    """The tensors of a part; weights stand for what is not there: copies, or gradients before the first step."""
    weights = [_real(p.detach()) for p in part.params]
    return Tensors(
        before=weights if before is None else [_real(w) for w in before],
        weights=weights,
        grads=[_real((p if p.grad is None else p.grad).detach()) for p in part.params],
        blocks=part.blocks,
    )


class Copies:
    """Copies of the weights of one part after the other, in the same memory: fresh memory costs more than the copy.

    Args:
        kept: Whether to keep the memory; where all parts are copied at once, it would be that of all.
    """

    def __init__(self, kept: bool) -> None:
        self._kept = kept
        self._memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def of(self, part: Part) -> list[Tensor]:
        """The weights of a part as they are; valid until the next part's."""
        found = self.like(part)
        torch._foreach_copy_(found, [p.detach() for p in part.params])
        return found

    def like(self, part: Part) -> list[Tensor]:
        """Memory for a part, in the layouts of its weights; it is also what the next `of` uses."""
        found, memory, at = [], self._enough(part), 0
        for p in part.params:
            strides = torch.empty_like(p, device="meta").stride()
            found.append(torch.as_strided(memory, p.shape, strides, at))
            at += p.numel()
        return found

    def _enough(self, part: Part) -> Tensor:
        p, size = part.params[0], sum(p.numel() for p in part.params)
        memory = self._memory.get((p.dtype, p.device))
        if memory is None or len(memory) < size:
            memory = torch.empty(size, dtype=p.dtype, device=p.device)
            if self._kept:
                self._memory[p.dtype, p.device] = memory
        return memory


_PAIRS: dict[str, Callable[[Any, Any, Any, Any], tuple[Any, Any]]] = {
    "ww": lambda w, d, g, one: (w, w),
    "wd": lambda w, d, g, one: (w, d),
    "dd": lambda w, d, g, one: (d, d),
    "gg": lambda w, d, g, one: (g, g),
    "wg": lambda w, d, g, one: (w, g),
    "sw": lambda w, d, g, one: (w, one),
    "sd": lambda w, d, g, one: (d, one),
}


def row_sums(x: Tensors, names: Sequence[str]) -> Rows:
    """Sums per row of all weights, one weight behind the other; `sd` and `sw` are the sums of d and w.

    Args:
        x: The tensors; `d` is what the weights have moved.
        names: Pairs of `w`, `d` and `g`.
    """
    found = chunked_sums(x, names) if x.device.type == "cpu" else listed_sums(x, names)
    return dict(zip(names, found.to(vector_dtype(x.device)), strict=True))


def chunked_sums(x: Tensors, names: Sequence[str]) -> Tensor:
    """`(names, rows)`, weight by weight in pieces that fit a cache."""
    each = zip(x.before, x.weights, x.grads, strict=True)
    return torch.cat([chunked_row_dots(own, lambda *c: _pairs(names, *c), x.dim) for own in each], 1)


def listed_sums(x: Tensors, names: Sequence[str]) -> Tensor:
    """The same in few launches, with lists of tensors."""
    lists = ([to_opmath(t) for t in tensors] for tensors in (x.before, x.weights, x.grads))
    return torch.stack([dots(a, b, x.dim) for a, b in _list_pairs(names, *lists)])


def elements(x: Tensors) -> Tensor:
    """Elements of each row."""
    counts = [w.numel() / r for w, r in zip(x.weights, x.rows(), strict=True) for _ in range(r)]
    return torch.tensor(counts, dtype=vector_dtype(x.device), device=x.device)


def _pairs(names: Sequence[str], before: Tensor, weight: Tensor, grad: Tensor) -> list[tuple[Tensor, Tensor]]:
    w, g = to_opmath(before), to_opmath(grad)
    d = to_opmath(weight) - w
    one = w.new_ones(()).expand_as(w)
    return [_PAIRS[name](w, d, g, one) for name in names]


def _list_pairs(names: Sequence[str], *lists: list[Tensor]) -> list[tuple[TensorList, TensorList]]:
    w, new, g = lists
    moved = {"wd", "dd", "sd"} & {*names}
    d = TensorList(list(torch._foreach_sub(new, w)) if moved else new)
    ones = TensorList([x.new_ones(()).expand_as(x) for x in w])
    w, g = TensorList(w), TensorList(g)
    return [_PAIRS[name](w, d, g, ones) for name in names]


@dataclass(frozen=True)
class PerBlock:
    """Sums per block of some weights.

    Args:
        sums: By name.
        treated: Which blocks are treated; None where all are.
        total: From numbers per row to their sums per block.
        spread: From one number per block to one per row.
        counts: Blocks of each weight.
    """

    sums: Rows
    treated: Tensor | None
    total: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor]
    counts: list[int]

    def per_row(self, values: Any, default: float) -> Tensor:
        """Numbers per block, or one for all, as one per row; the default for blocks that are not treated."""
        if not isinstance(values, Tensor) or not values.ndim:
            values = torch.zeros_like(self.sums["ww"]) + values
        return self.spread(values if self.treated is None else torch.where(self.treated, values, default))


def per_block(x: Tensors, rows: Rows, *, delta: float, eps: float) -> PerBlock:
    """Sums over blocks. For the paper's test, rows have the sums of the view that fired: their own or the weight's."""
    shapes = tuple(tuple(w.shape) for w in x.weights)
    layout = lay_out(shapes, x.blocks, x.device)
    if isinstance(x.blocks, Blocks):
        sums = {name: layout.runs.total(values) for name, values in rows.items()}
        counts = [len(x.blocks.runs(shape)) for shape in shapes]
        return PerBlock(sums, layout.invariant, layout.runs.total, layout.spread, counts)
    test = Projection(lr=0.0, decay=0.0, delta=delta, eps=eps, wd_ratio=1.0)
    by_channel, by_layer = map(layout.spread, layout.views(torch.stack([rows[n] for n in ("ww", "gg", "wg")]), test))

    def total(values: Tensor) -> Tensor:
        return torch.where(by_channel, values, layout.spread(layout.runs.total(values)))

    sums = {name: total(values) for name, values in rows.items()}
    return PerBlock(sums, by_channel | by_layer, total, lambda values: values, x.rows())


def combine(x: Tensors, keep: Tensor, change: Tensor | None, shift: Tensor | None = None) -> None:
    """`weight <- change * weight + keep * before + shift`, one number each per row of all weights; None leaves out."""
    keeps, changes, shifts = (_factors(x, each) for each in (keep, change, shift))
    for i, (w, old) in enumerate(zip(x.weights, x.before, strict=True)):
        if w.dtype in HALF:
            parts = [None if each is None else each[i] for each in (keeps, changes, shifts)]
            _combine_wide(w, old, *parts)
            continue
        if changes:
            w.mul_(changes[i])
        w.addcmul_(old, keeps[i])  # type: ignore[index]
        if shifts:
            w.add_(shifts[i])


def _combine_wide(w: Tensor, old: Tensor, keep: Any, change: Any, shift: Any) -> None:
    """In pieces, in float32, rounded once."""
    factors = [f.expand_as(w) for f in (keep, change, shift) if f is not None]
    for new, before, k, *others in chunks([w, old, *factors]):
        wide = new.float() if change is None else new.float() * others[0]
        wide.addcmul_(before.float(), k)
        new.copy_(wide if shift is None else wide + others[-1])


def _factors(x: Tensors, values: Tensor | None) -> list[Tensor] | None:
    return None if values is None else factors(x, values)


def factors(x: Tensors, values: Tensor) -> list[Tensor]:
    """One number per row of all weights as one tensor per weight, which broadcasts against it."""
    if values.dtype.is_floating_point:
        values = values.to(opmath_dtype(x.weights[0].dtype))
    return [across(f, w, x.dim) for f, w in zip(values.split(x.rows()), x.weights, strict=True)]


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x

"""Cache key of a kernel's plan: shapes, dtypes, layouts and addresses of the parameters and their state.

After a step over a large model nothing of this is left in a processor's cache, and a small model's step takes not much
longer than the comparison. So nothing is kept that can be compared one by one instead (what is kept makes Python's
garbage collector run), all loops are `map`s, and the tensors that only this package writes are compared by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from operator import attrgetter, eq, is_, not_
from typing import Any, TypeVar

from torch import Tensor

from tangential.backends.buckets import GroupStep

T = TypeVar("T")
_shape, _dtype = attrgetter("shape"), attrgetter("dtype")


def joined(columns: Iterable[Sequence[T]]) -> list[T]:
    """Columns of several groups, one behind the other."""
    return list(chain.from_iterable(columns))


def addresses(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors begin."""
    return list(map(Tensor.data_ptr, tensors))


def _same(ask: Callable[[Any], Any], tensors: Sequence[Tensor], answers: Sequence[Any]) -> bool:
    """Whether a function still gives the same answers, one by one."""
    return all(map(eq, map(ask, tensors), answers))


class _Layouts:
    """The strides of tensors of known shapes. Whether one is contiguous is much the cheaper question."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.contiguous = list(map(Tensor.is_contiguous, tensors))
        self.others = list(map(not_, self.contiguous))
        self.strides = list(map(Tensor.stride, compress(tensors, self.others))) if any(self.others) else []

    def hold(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these tensors have the same."""
        if list(map(Tensor.is_contiguous, tensors)) != self.contiguous:
            return False
        return not self.strides or _same(Tensor.stride, list(compress(tensors, self.others)), self.strides)


class Fingerprint:
    """The parameters of some groups as they were when a plan was made for them.

    A moment that is the same object at the same address is unchanged. Gradients are new tensors every step, and weights
    may be changed by anybody, so of both everything is compared.
    """

    def __init__(self, group_steps: Sequence[GroupStep]) -> None:
        weights, grads = joined(step.weights for step in group_steps), joined(step.grads for step in group_steps)
        self.groups = [(step.blocks, len(step.weights)) for step in group_steps]
        self.owned = self._owned(group_steps)
        self.memory = [x.untyped_storage() for x in self.owned if x is not None]  # outlives a change of `.data`
        self.places = [addresses(column) for column in self._columns(weights, group_steps)]
        self.moments = [list(map(id, column)) for column in self._columns(weights, group_steps)[1:]]
        self.shapes, self.dtypes = list(map(_shape, weights)), list(map(_dtype, weights))
        self.grad_dtypes, self.grad_types = list(map(_dtype, grads)), list(map(type, grads))
        self.layouts, self.grad_layouts = _Layouts(weights), _Layouts(grads)
        self.negated = self._negated(weights, grads)

    @staticmethod
    def _negated(weights: list[Tensor], grads: list[Tensor]) -> bool:
        return any(map(Tensor.is_neg, weights)) or any(map(Tensor.is_neg, grads))

    @staticmethod
    def _owned(group_steps: Sequence[GroupStep]) -> list[Tensor | None]:
        """The tensors that only this package writes."""
        return joined(column for step in group_steps for column in (step.steps, step.decisions, step.votes))

    @staticmethod
    def _columns(weights: list[Tensor], group_steps: Sequence[GroupStep]) -> list[list[Tensor]]:
        return [weights, *(joined(columns) for columns in zip(*(step.moments for step in group_steps), strict=True))]

    def holds(self, group_steps: Sequence[GroupStep]) -> bool:
        """Whether a plan that was made then still fits."""
        weights, grads = joined(step.weights for step in group_steps), joined(step.grads for step in group_steps)
        columns = self._columns(weights, group_steps)
        owned = self._owned(group_steps)
        return (
            [(step.blocks, len(step.weights)) for step in group_steps] == self.groups
            and len(owned) == len(self.owned)
            and all(map(is_, owned, self.owned))
            and list(map(type, grads)) == self.grad_types
            and list(map(addresses, columns)) == self.places
            and [list(map(id, column)) for column in columns[1:]] == self.moments
            and _same(_shape, weights, self.shapes)
            and _same(_shape, grads, self.shapes)
            and _same(_dtype, weights, self.dtypes)
            and _same(_dtype, grads, self.grad_dtypes)
            and self.layouts.hold(weights)
            and self.grad_layouts.hold(grads)
            and self._negated(weights, grads) == self.negated
        )

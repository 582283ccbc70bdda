"""Cache key of a kernel's plan: shapes, dtypes, layouts and addresses of the parameters and their state.

After a step over a large model nothing of this is left in a processor's cache, and a small model's step takes not much
longer than the comparison. So all loops are `map`s, lists of one group are not copied, and each question is the
cheapest that has the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from operator import attrgetter, eq, is_, not_
from typing import Any, TypeVar
from weakref import ref

from torch import Tensor

from tangential.backends.group_step import GroupStep

T = TypeVar("T")
_dtype = attrgetter("dtype")


def joined(columns: Sequence[list[T]]) -> list[T]:
    """Columns of several groups, one behind the other."""
    return columns[0] if len(columns) == 1 else list(chain.from_iterable(columns))


def addresses(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors begin."""
    return list(map(Tensor.data_ptr, tensors))


class Columns:
    """The tensors of the steps of some groups: one column of each kind, one group behind the other.

    Args:
        group_steps: One per parameter group.

    Attributes:
        weights: The parameters.
        grads: Their gradients.
        moments: All moments, and remainders.
        counts: Step counts, decisions and votes; None where a weight has none.
    """

    def __init__(self, group_steps: Sequence[GroupStep]) -> None:
        self.groups = [(step.blocks, step.compensation, len(step.weights)) for step in group_steps]
        self.weights = joined([step.weights for step in group_steps])
        self.grads = joined([step.grads for step in group_steps])
        self.moments = list(
            chain.from_iterable(column for step in group_steps for column in (*step.moments, step.remainders))
        )
        self.counts: list[Tensor | None] = []
        for step in group_steps:
            self.counts += (*step.steps, *step.decisions, *step.votes)


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

    Gradients are new tensors every step, and weights may be changed by anybody, so of both everything is compared. A
    tensor of the state is the same if it is the same object at the same address: one whose storage is resized, or whose
    `.data` is replaced, lies elsewhere. Nothing large is kept alive: users move moments away to free their memory.
    """

    def __init__(self, columns: Columns) -> None:
        self.groups, self.counts = columns.groups, columns.counts
        self.moments = list(map(ref, columns.moments))  # an id can be that of a later object
        self.owned = [x for x in columns.counts if x is not None]
        self.memory = [
            x.untyped_storage() for x in self.owned
        ]  # a few bytes, which nothing else can be given meanwhile
        self.places, self.moment_places = addresses(columns.weights), addresses(columns.moments)
        self.owned_places = addresses(self.owned)
        self.shapes, self.dtypes = list(map(Tensor.size, columns.weights)), list(map(_dtype, columns.weights))
        self.grad_dtypes, self.grad_types = list(map(_dtype, columns.grads)), list(map(type, columns.grads))
        self.layouts, self.grad_layouts = _Layouts(columns.weights), _Layouts(columns.grads)
        self.grads_negated = list(map(Tensor.is_neg, columns.grads))

    def holds(self, columns: Columns) -> bool:
        """Whether a plan that was made then still fits."""
        weights, grads = columns.weights, columns.grads
        return (
            columns.groups == self.groups
            and len(columns.counts) == len(self.counts)
            and all(map(is_, columns.counts, self.counts))
            and addresses(self.owned) == self.owned_places
            and all(map(is_, columns.moments, [known() for known in self.moments]))
            and addresses(columns.moments) == self.moment_places
            and addresses(weights) == self.places
            and _same(Tensor.size, weights, self.shapes)
            and all(map(is_, map(_dtype, weights), self.dtypes))
            and self.layouts.hold(weights)
            and self._holds_gradients(grads)
        )

    def _holds_gradients(self, grads: Sequence[Tensor]) -> bool:
        """The same of gradients alone, wherever they lie; those without strides have no address either."""
        try:
            return (
                all(map(is_, map(type, grads), self.grad_types))
                and _same(Tensor.size, grads, self.shapes)
                and all(map(is_, map(_dtype, grads), self.grad_dtypes))
                and list(map(Tensor.is_neg, grads)) == self.grads_negated
                and self.grad_layouts.hold(grads)
            )
        except RuntimeError:  # a sparse gradient knows no layout
            return False

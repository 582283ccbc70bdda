"""Checks of the tensors of a step: shapes, dtypes, and the memory they lie in.

Users, hooks and checkpoint libraries exchange gradients and state between steps, and the kernels write through
addresses. The usual case is answered for all tensors at once, without a loop over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from operator import attrgetter, is_
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential.backends.modes import recording
from tangential.backends.opmath import opmath_dtype

if TYPE_CHECKING:
    from tangential.backends.group_step import GroupStep

MOMENT_DTYPES = {torch.float32, torch.float64, torch.bfloat16}
"""Dtypes of real moments. The squares of usual gradients are 0 in float16."""

PLAIN = {Tensor, Parameter}
"""Types whose memory is that of the tensor; what a subclass holds is its own matter."""

_layout, _dtype = attrgetter("layout"), attrgetter("dtype")


def check_tensors(step: GroupStep) -> None:
    """Raise ValueError for parameters that do not fit their gradient, state, or the memory these lie in."""
    if recording() or not _all_usual(step):
        for i in range(len(step.weights)):
            _check_gradient(step, i)
            _check_shape(step, i)


def _all_usual(step: GroupStep) -> bool:
    """Whether all tensors are contiguous, whole and of their weight's shape."""
    sizes = list(map(Tensor.size, step.weights))
    others = (step.grads, *step.moments)
    found = list(chain(step.weights, *others))
    return (
        not step.votes
        and not step.remainders
        and all(map(is_, map(_layout, step.grads), repeat(torch.strided)))
        and all(list(map(Tensor.size, column)) == sizes for column in others)
        and not any(map(Tensor.dim, step.steps))
        and all(map(Tensor.is_floating_point, step.steps))
        and not any(map(Tensor.is_neg, step.steps))
        and {*map(_dtype, chain(*step.moments))} <= MOMENT_DTYPES
        and {*map(type, chain(*step.moments))} <= PLAIN
        and all(map(Tensor.is_contiguous, found))
        and all(map(holds_memory, chain(step.steps, found)))
    )


def _check_gradient(step: GroupStep, i: int) -> None:
    """Raise ValueError for a gradient without strides."""
    if step.grads[i].layout != torch.strided:
        raise ValueError(
            f"a {step.grads[i].layout} gradient came for a parameter of shape {tuple(step.weights[i].shape)}: only"
            " dense gradients are allowed. Use nn.Embedding(sparse=False), or give that parameter to"
            " torch.optim.SparseAdam"
        )


def _of_weights_shape(step: GroupStep, i: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a parameter that must have its shape, behind what errors call them."""
    yield "gradient", step.grads[i]
    for moment in step.moments:
        yield "moment", moment[i]
    remainder = step.remainder(i)
    if remainder is not None:
        yield "remainder", remainder


def _check_shape(step: GroupStep, i: int) -> None:
    """Raise ValueError for a parameter that does not fit its gradient, its state, or the memory they lie in."""
    w = step.weights[i]
    for what, x in _of_weights_shape(step, i):
        if x.shape != w.shape:
            raise ValueError(
                f"a parameter of shape {tuple(w.shape)} has a {what} of shape {tuple(x.shape)}: it was resized, or"
                " its data replaced. Take new gradients, and resize its state too or delete it (`del"
                " optimizer.state[parameter]`)"
            )
        if not _fit_dtype(what, x, w):
            right = torch.int16 if what == "remainder" else opmath_dtype(w.dtype)
            raise ValueError(
                f"a parameter of {w.dtype} and shape {tuple(w.shape)} has a {what} of {x.dtype}, unfit for it: convert"
                f" it to {right}"
            )
        if what != "gradient" and type(x) not in {*PLAIN, type(w)} and not recording():
            raise ValueError(
                f"a parameter of shape {tuple(w.shape)} has a {what} of the type {type(x).__name__}: must be a plain"
                " tensor; quantised moments are not stepped"
            )
    if not recording():
        _check_counts(step, i)
        _check_memory(step, i)


def _fit_dtype(what: str, x: Tensor, w: Tensor) -> bool:
    if what == "moment":
        return x.is_complex() if w.is_complex() else x.dtype in MOMENT_DTYPES
    return what == "gradient" or x.dtype == torch.int16


def _check_counts(step: GroupStep, i: int) -> None:
    """Raise ValueError for a step count that is not one number, or votes that are not two."""
    found = [("step count", step.steps[i], ()), *(("votes", x[i], (2,)) for x in (step.votes,) if x)]
    for what, x, shape in found:
        counts = x.is_floating_point() if shape == () else x.dtype == torch.int32
        if x.shape != shape or not counts or x.is_neg() or not holds_strided(x):
            raise ValueError(
                f"the {what} of a parameter of shape {tuple(step.weights[i].shape)} came as {x.dtype} of shape"
                f" {tuple(x.shape)} in {x.untyped_storage().nbytes()} bytes, must be the tensor of shape {shape}"
                " that the optimizer made: load a state dict, or start with fresh state"
            )


def _check_memory(step: GroupStep, i: int) -> None:
    """Raise ValueError for tensors on a CPU whose storage does not hold them, or those that cannot be written."""
    w = step.weights[i]
    for what, x in (("weight", w), *_of_weights_shape(step, i)):
        if x.is_cpu and not holds_strided(x):
            raise ValueError(
                f"a parameter of shape {tuple(w.shape)} has a {what} in a storage of {x.untyped_storage().nbytes()}"
                " bytes, which has been resized: compute it again"
            )
        if what != "gradient" and 0 in x.stride() and not x.is_contiguous():
            raise ValueError(
                f"a parameter of shape {tuple(w.shape)} has an expanded {what}, whose elements share memory, so it"
                " cannot be written: clone it"
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

"""How single things are put back: an attribute, a tensor, a random generator."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Undo = Callable[[], None]

MISSING = object()
"""The value of an attribute that is not there."""


def access(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """How to read and write an attribute as it is stored: without descriptors, inheritance or imports."""
    if isinstance(owner, dict):
        return (lambda: owner.get(name, MISSING)), lambda v: _store(owner.__setitem__, owner.pop, name, v)
    if isinstance(owner, type):
        write: Callable[[Any], None] = lambda v: _store(  # noqa: E731
            functools.partial(type.__setattr__, owner), functools.partial(type.__delattr__, owner), name, v
        )
        return (lambda: vars(owner).get(name, MISSING)), write
    write = lambda v: _store(functools.partial(setattr, owner), functools.partial(delattr, owner), name, v)  # noqa: E731
    return (lambda: getattr(owner, name, MISSING)), write


def _store(put: Callable[[str, Any], Any], remove: Callable[[str], Any], name: str, value: Any) -> None:
    if value is MISSING:
        remove(name)
    else:
        put(name, value)


def tensor_undo(tensor: Tensor) -> Undo | None:
    """What puts a tensor's values, history and gradient back, or None for one that has no values to copy."""
    if tensor.is_meta:
        return None
    grad, wanted = tensor.grad if tensor.is_leaf else None, tensor.requires_grad
    try:
        saved = tensor.detach().clone()
        torch.equal(tensor, saved)
    except (RuntimeError, NotImplementedError, TypeError):  # such as nested or fake tensors
        return None

    def undo() -> None:
        if tensor.shape != saved.shape or tensor.dtype != saved.dtype:
            tensor.data = saved.clone()
        elif not torch.equal(tensor, saved):
            tensor.data.copy_(saved)  # not counted as a change, for a graph of the user's may hold it
        if tensor.requires_grad and not wanted:
            tensor.detach_()  # the run made it a result of the weights
        if tensor.is_leaf and tensor.grad is not grad:
            tensor.grad = grad

    return undo


def generator_undo(thing: Any, undo: list[Undo]) -> bool:
    """Record a random generator, if `thing` is one.

    Args:
        thing: Anything.
        undo: What puts it back is added here.

    Returns:
        Whether it is one.
    """
    numpy = sys.modules.get("numpy")
    if isinstance(thing, random.Random):
        state = thing.getstate()
        undo.append(lambda: thing.setstate(state))
    elif isinstance(thing, torch.Generator):
        saved = thing.get_state()
        undo.append(lambda: thing.set_state(saved) and None)
    elif numpy and isinstance(thing, numpy.random.Generator):
        bits, kept = thing.bit_generator, thing.bit_generator.state
        undo.append(lambda: setattr(bits, "state", kept))
    elif numpy and isinstance(thing, numpy.random.RandomState):
        before = thing.get_state()
        undo.append(lambda: thing.set_state(before))
    else:
        return False
    return True

"""The tensors of a group in a step as columns: parallel lists, gathered without a loop where all are there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_, is_not, itemgetter
from typing import Any

from torch import Tensor

from tangential.backends import DECISION, REMAINDER, VOTES, compensates
from tangential.optimizers.checked_group import States
from tangential.optimizers.missing_state import add_missing

_dtype = attrgetter("dtype")


def fill_columns(
    group: dict[str, Any],
    given: Sequence[Tensor | None],
    state: States,
    moments: Sequence[str],
    columns: tuple[list[Tensor], ...],
    more: Sequence[list[Any]],
) -> None:
    """Fill lists from the parameters that have a gradient; make the state of those without one.

    Args:
        group: The group.
        given: The gradients of its parameters.
        state: The optimizer's state.
        moments: Keys of the moments.
        columns: Parameters, gradients, step counts, votes (if those decide) and remainders (if a weight has one; the
            weight itself stands in for one that has none).
        more: The moments, and decisions if they are wanted.
    """
    params, grads, steps, votes, remainders = columns
    if all(map(is_not, given, repeat(None))):
        params += group["params"]
        grads += given  # type: ignore[arg-type]
    else:
        params += [p for p, grad in zip(group["params"], given, strict=True) if grad is not None]
        grads += [grad for grad in given if grad is not None]
    owns = _states_of(params, state)
    sticky = group["blocks"] == "sticky"
    compensated = any(compensates(dtype, group["compensation"]) for dtype in {*map(_dtype, params)})
    if sticky or compensated or not all(owns):
        for p, own in zip(params, owns, strict=True):
            add_missing(own, p, group, moments)
    steps += map(itemgetter("step"), owns)
    votes += map(itemgetter(VOTES), owns) if sticky else ()
    remainders += map(dict.get, owns, repeat(REMAINDER), params) if compensated else ()
    for name, column in zip(moments, more, strict=False):
        column += map(itemgetter(name), owns)
    for column in more[len(moments) :]:
        column += map(dict.get, owns, repeat(DECISION))


def _states_of(params: Sequence[Tensor], state: States) -> list[dict[str, Any]]:
    """The state of each parameter; in order where all have one, which spares the hash of every tensor."""
    if len(state) == len(params) and all(map(is_, state, params)):
        return list(state.values())
    return list(map(state.__getitem__, params))

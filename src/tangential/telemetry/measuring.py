"""One recorded step, from the moment before it to the moment after."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from tangential.optimizers.base import Projected
from tangential.telemetry.analytic import can_hand_over, handed
from tangential.telemetry.block_sums import Part
from tangential.telemetry.snapshot import Copy, copies
from tangential.telemetry.watch_list import Watched


class Measurement:
    """What is known so far of a step that is being recorded.

    Args:
        optimizer: Whose step.
        watched: The weights, as they are before it.
        limit: Elements that may be copied.
        turn: Which weight is copied first.
    """

    def __init__(self, optimizer: Optimizer, watched: list[Watched], *, limit: int, turn: int) -> None:
        self._optimizer = optimizer
        self._order = watched
        self._handing = [one for one in watched if can_hand_over(optimizer, one)]
        others = [one for one in watched if not can_hand_over(optimizer, one)]
        with torch.no_grad():
            self._copies: list[Copy] = list(copies(others, limit, turn))
        self._parts: list[Part] = []
        self._seen = False

    def with_closure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Look at the gradients now, or after the first call of the closure that is to make them.

        Args:
            args: What `step` was called with, the optimizer first.
            kwargs: And by name.

        Returns:
            None, or what `step` should be called with instead.
        """
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self._see_gradients()
            return None

        def watched_closure() -> Any:
            loss = closure()
            if not self._seen:  # L-BFGS asks again, at other weights
                self._see_gradients()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": watched_closure}
        return (*args[:1], watched_closure, *args[2:]), kwargs

    @torch.no_grad()
    def _see_gradients(self) -> None:
        self._seen = True
        for copy in self._copies:
            copy.see_gradient()
        if self._handing and isinstance(self._optimizer, Projected):
            self._parts += handed(self._optimizer, self._handing)

    @torch.no_grad()
    def parts(self) -> list[Part]:
        """What every weight that stepped did, once the step has been taken, in the order of the weights."""
        if not self._seen:  # the optimizer did not call the closure it was given
            self._see_gradients()
        found = {id(part.one): part for part in self._parts}
        for copy in self._copies:
            if copy.stepped:
                found[id(copy.one)] = copy.part(self._optimizer.state.get(copy.one.weight, {}))
        return [found[id(one)] for one in self._order if id(one) in found]

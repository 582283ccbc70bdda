"""One recorded step, from the moment before it to the moment after.

    step pre-hook    copies of the weights; the gradients as far as they are final
    closure          the gradients of its first evaluation
    step post-hook   the weights again, and the gradients where they may have changed since they were read

Weights of SGDP and AdamP that the limit does not let copy whole are predicted, where nothing comes between.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.optimizers.base import Projected
from tangential.telemetry.analytic import Prediction, is_predictable, predictions
from tangential.telemetry.block_sums import BlockSums
from tangential.telemetry.decision import Decision
from tangential.telemetry.parts import added_up
from tangential.telemetry.snapshot import snapshots
from tangential.telemetry.watch_list import WatchedWeight


class Measurement:
    """What is known so far of a step that is being recorded.

    Args:
        optimizer: Whose step.
        weights: The weights, as they are before it.
        limit: Elements that may be copied.
        turn: Which weight is copied first.
        other_hooks: Whether hooks that may change the gradients run after this was made.
    """

    def __init__(
        self, optimizer: Optimizer, weights: list[WatchedWeight], *, limit: int, turn: int, other_hooks: bool = False
    ) -> None:
        self._optimizer = optimizer
        # a GradScaler leaves it to some optimizers to divide the gradients by its scale
        scale = getattr(optimizer, "grad_scale", None)
        self._scale: Tensor | None = scale if isinstance(scale, Tensor) else None
        self._final = not other_hooks and not _overrides_step(type(optimizer))
        self._evaluations = 0
        self._has_read = False
        with torch.no_grad():
            self._snapshots = list(snapshots(weights, limit, turn))
            for snapshot in self._snapshots:
                snapshot.decision = Decision.before(optimizer, snapshot.weight)
        predictable = self._final and self._scale is None
        self._predictable = [
            x.weight for x in self._snapshots if predictable and not x.is_whole and is_predictable(optimizer, x.weight)
        ]
        self._predictions: dict[int, Prediction] = {}

    def with_closure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Read the gradients now, or after the first call of the closure that is to make them.

        Args:
            args: What `step` was called with, the optimizer first.
            kwargs: And by name.

        Returns:
            None, or what `step` should be called with instead.
        """
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self._read_gradients()
            return None

        def watched_closure() -> Any:
            loss = closure()
            self._evaluations += 1
            if self._evaluations == 1:  # L-BFGS evaluates more often, at other weights
                self._read_gradients()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": watched_closure}
        return (*args[:1], watched_closure, *args[2:]), kwargs

    @torch.no_grad()
    def _read_gradients(self) -> None:
        self._has_read = True
        for snapshot in self._snapshots:
            snapshot.read_gradient(self._scale)
        if self._predictable and isinstance(self._optimizer, Projected):
            found = predictions(self._optimizer, self._predictable)
            self._predictions = {id(each.sums.weight): each for each in found}

    @torch.no_grad()
    def sums(self) -> list[BlockSums]:
        """What every weight that stepped did, once the step has been taken, in the order of the weights."""
        if not self._has_read or (not self._final and self._evaluations < 2):
            self._read_gradients()
        found = []
        for snapshot in self._snapshots:
            share = snapshot.share()
            if share is None and not snapshot.has_stepped:
                continue
            measured = snapshot.sums(_states(self._optimizer).get(snapshot.weight.tensor) or {})
            prediction = self._predictions.get(id(snapshot.weight))
            found.append((measured if prediction is None else _either(prediction, measured), share))
        return added_up(found)


def _states(optimizer: Optimizer) -> Mapping[Tensor, dict[str, Any] | None]:
    """The state that is stepped: ZeroRedundancyOptimizer has it in `optim`, and none of its own until one is loaded."""
    inner = getattr(optimizer, "optim", None)
    return inner.state if isinstance(inner, Optimizer) else optimizer.state


def _either(prediction: Prediction, measured: BlockSums) -> BlockSums:
    sums = prediction.sums
    return BlockSums(
        sums.weight, sums.sums, sums.norm_squared, sums.projected, stored=prediction.is_stored(), measured=measured
    )


def _overrides_step(kind: type) -> bool:
    """Whether a class adds to the `step` of another optimizer, and may change gradients or weights there."""
    steps = [vars(each)["step"] for each in kind.__mro__ if "step" in vars(each) and each is not Optimizer]
    return len({inspect.unwrap(step) for step in steps if callable(step)}) > 1

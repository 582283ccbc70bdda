"""Records: plain dictionaries of numbers and names, one per recorded step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from torch import Tensor
from torch.optim import Optimizer

from tangential.invariances.parameter_names import unprefixed
from tangential.telemetry.block_sums import BlockSums, Gathered, gathered
from tangential.telemetry.equilibrium import equilibrium_angle
from tangential.telemetry.metrics import Detail, Metrics, number, of_weight, over_weights, per_block


class Record(TypedDict):
    """What one recorded step did, as plain values.

    Attributes:
        step: Steps the optimizer has taken.
        epoch: What `Telemetry.epoch` was set to.
        summary: Quantiles over the weights of each metric.
        weights: Name to metrics; left out with `detail="summary"`.
    """

    step: int
    epoch: int | None
    summary: dict[str, dict[str, float]]
    weights: dict[str, Metrics]


class Recorder:
    """Makes records of measured steps, and counts how often the decision to project a weight changes.

    Args:
        optimizer: Whose steps.
        detail: How much a record holds.
    """

    def __init__(self, optimizer: Optimizer, detail: Detail) -> None:
        self.count = 0
        self._optimizer = optimizer
        self._detail: Detail = detail
        self._last: dict[str, tuple[bool, int]] = {}  # by name without wrappers' prefixes

    def flips(self) -> dict[str, list[Any]]:
        """Whether each weight was projected last, and how often that changed, by name."""
        return {name: [*last] for name, last in self._last.items()}

    def load_flips(self, flips: Mapping[str, Any]) -> None:
        """Go on from what `flips` gave."""
        self._last = {unprefixed(name): (bool(last), int(count)) for name, (last, count) in flips.items()}

    def record(self, sums: list[BlockSums], *, step: int, epoch: int | None) -> Record | None:
        """Read the sums back, which waits for the device once.

        Returns:
            The record, or None if no step was taken: nothing had a gradient, or a gradient scaler skipped it.
        """
        rates = [group.get("lr", 0.0) for group in self._optimizer.param_groups]
        skip = getattr(self._optimizer, "found_inf", None)  # a GradScaler leaves the skipping to some fused optimizers
        extras = [x for x in (*rates, skip) if isinstance(x, Tensor)]
        found, values = gathered(sums, extras)
        if not found or (isinstance(skip, Tensor) and values[-1]) or _has_stood_still([each.sums for each in found]):
            return None
        self.count += 1
        numbers = iter(values)
        known = [next(numbers) if isinstance(lr, Tensor) else float(lr) for lr in rates]
        lr_of = {id(group): lr for group, lr in zip(self._optimizer.param_groups, known, strict=True)}
        weights = {each.weight.name: self._entry(each, lr_of.get(id(each.weight.group), math.nan)) for each in found}
        record: dict[str, Any] = {"step": step, "epoch": epoch, "summary": over_weights(weights)}
        return cast(Record, record if self._detail == "summary" else {**record, "weights": weights})

    def _entry(self, found: Gathered, lr: float) -> Metrics:
        weight = found.weight
        flips = None if found.projected is None else self._count_flips(unprefixed(weight.name), found.projected)
        predicts = not weight.variant and (weight.tensor.ndim > 1 or weight.kind is not None)
        return {
            "kind": weight.kind,
            "blocks": found.sums.shape[1],
            "norm": number(math.sqrt(found.norm_squared)) if found.norm_squared >= 0 else None,
            **of_weight(per_block(found.sums), self._detail),
            "projected": found.projected,
            "flips": flips,
            "equilibrium_angle": equilibrium_angle(
                self._optimizer, weight.group, lr=lr, projected=bool(found.projected)
            )
            if predicts
            else None,
        }

    def _count_flips(self, name: str, projected: bool) -> int:
        last, count = self._last.get(name, (projected, 0))
        self._last[name] = (projected, count + (last != projected))
        return self._last[name][1]


def _has_stood_still(sums: list[Tensor]) -> bool:
    """Whether no weight moved at all though a gradient is not finite: the optimizer, or who calls it, skipped the step.

    A step of length zero with finite gradients is a step: the learning rate may be zero.
    """
    moved = any(bool((x[1] != 0).any()) for x in sums)
    return not moved and any(not bool(x[3].isfinite().all()) for x in sums)

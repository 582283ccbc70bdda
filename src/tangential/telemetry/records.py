"""Records: plain dictionaries, one per recorded step."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tangential.telemetry.block_sums import Part, gathered
from tangential.telemetry.equilibrium import equilibrium_angle
from tangential.telemetry.metrics import Detail, Figures, number, of_weight, over_weights, per_block

Record = dict[str, Any]


class Recorder:
    """Makes records of what was measured, and remembers what was projected last.

    Args:
        optimizer: Whose steps.
        detail: How much a record holds.
    """

    def __init__(self, optimizer: Optimizer, detail: Detail) -> None:
        self.count = 0
        self._optimizer = optimizer
        self._detail: Detail = detail
        self._said: dict[str, tuple[bool, int]] = {}

    def flips(self) -> dict[str, list[Any]]:
        """What was projected last and how often that changed, by name."""
        return {name: [*said] for name, said in self._said.items()}

    def load_flips(self, flips: dict[str, list[Any]]) -> None:
        """Go on from what `flips` gave."""
        self._said = {name: (bool(said), int(count)) for name, (said, count) in flips.items()}

    def record(self, parts: list[Part], *, step: int, epoch: int | None) -> Record | None:
        """Read the parts back, which waits for the device once.

        Returns:
            The record, or None if no step was taken: nothing had a gradient, or a gradient scaler skipped it.
        """
        rates = [group.get("lr", 0.0) for group in self._optimizer.param_groups]
        skip = getattr(self._optimizer, "found_inf", None)  # a GradScaler leaves the skipping to some fused optimizers
        extras = [x for x in (*rates, skip) if isinstance(x, Tensor)]
        rows, values = gathered(parts, extras)
        if not parts or (isinstance(skip, Tensor) and values[-1]) or _stood_still([sums for _, sums, *_ in rows]):
            return None
        self.count += 1
        numbers = iter(values)
        known = [next(numbers) if isinstance(lr, Tensor) else float(lr) for lr in rates]
        lr_of = {id(group): lr for group, lr in zip(self._optimizer.param_groups, known, strict=True)}
        weights = {
            part.one.name: self._entry(part, sums, whole, fired, lr_of[id(part.one.group)])
            for part, sums, whole, fired in rows
        }
        record: Record = {"step": step, "epoch": epoch, "summary": over_weights(weights)}
        return record if self._detail == "summary" else {**record, "weights": weights}

    def _entry(self, part: Part, sums: Tensor, whole: float, fired: bool, lr: float) -> Figures:
        one = part.one
        projected, flips = (None, None) if part.projected is None else self._count_flips(one.name, fired)
        predicts = not one.variant and (one.weight.ndim > 1 or one.kind is not None)
        return {
            "kind": one.kind,
            "blocks": sums.shape[1],
            "norm": number(math.sqrt(whole)) if whole >= 0 else None,
            **of_weight(per_block(sums), self._detail),
            "projected": projected,
            "flips": flips,
            "equilibrium_angle": equilibrium_angle(self._optimizer, one.group, lr=lr, projected=fired)
            if predicts
            else None,
        }

    def _count_flips(self, name: str, fired: bool) -> tuple[bool, int]:
        last, count = self._said.get(name, (fired, 0))
        self._said[name] = (fired, count + (last != fired))
        return self._said[name]


def _stood_still(sums: list[Tensor]) -> bool:
    """Whether no weight moved at all though a gradient is not finite: the optimizer, or who calls it, skipped the step.

    A step of length zero with finite gradients is a step: the learning rate may be zero.
    """
    moved = any(bool((x[1] != 0).any()) for x in sums)
    return not moved and any(not bool(x[3].isfinite().all()) for x in sums)

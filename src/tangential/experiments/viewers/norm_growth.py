"""Real training steps of a user's optimizer and of the projected one: how norms grow, how effective steps shrink."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from tangential.experiments.viewers.baseline import Baseline
from tangential.invariances import Invariances
from tangential.telemetry import watch

Loss = Callable[[nn.Module, Any], Tensor]
"""From a model and a batch to a loss."""
_ENDS = 10
"""The first and the last tenth of the steps are compared: single steps of Adam differ by more than the trend."""


@dataclass(frozen=True)
class Growth:
    """What steps did to the scale-invariant weights; medians over them.

    Attributes:
        steps: How many were taken.
        norms: Optimizer -> norm at the last step, relative to the first.
        effective_steps: Optimizer -> mean effective step of the last tenth, relative to the first tenth.
    """

    steps: int
    norms: Mapping[str, float]
    effective_steps: Mapping[str, float]


def measure_growth(
    model: nn.Module, found: Invariances, baseline: Baseline, batches: Iterable[Any], steps: int, loss: Loss
) -> Growth:
    """Train copies of a model with the user's optimizer and the projected one, on the same batches.

    Args:
        model: It is not changed.
        found: Its scale-invariant weights.
        baseline: The user's optimizer.
        batches: Real data; read from its beginning again when it ends.
        steps: At least 2.
        loss: From the model and a batch.

    Raises:
        FloatingPointError: The loss is not finite.
        ValueError: No batch, fewer than two steps, or no scale-invariant weight to look at.
    """
    if steps < 2:
        raise ValueError(f"steps={steps}: must be at least 2, to compare the last with the first")
    if not any(blocks is not None for blocks in found.values()):
        raise ValueError("the model has no scale-invariant weights whose norms could be watched")
    given = _repeated(batches, steps)
    norms, effective = {}, {}
    for title in (baseline.title, baseline.projected_title):
        own = copy.deepcopy(model).train()
        groups = found.param_groups(own, weight_decay=baseline.weight_decay or 0.0)
        projected = title == baseline.projected_title
        optimizer = baseline.build_projected(groups) if projected else baseline.build(own.parameters())
        norms[title], effective[title] = _trend(own, optimizer, found, given, loss)
    return Growth(steps, norms, effective)


def _trend(
    model: nn.Module, optimizer: Optimizer, found: Invariances, batches: list[Any], loss: Loss
) -> tuple[float, float]:
    invariant = [name for name, blocks in found.items() if blocks is not None]
    options: Any = {"names": model.named_parameters(), "invariances": found, "detail": "weights"}
    with watch(optimizer, every=1, keep=len(batches), where=lambda name, _: name in invariant, **options) as telemetry:
        for number, batch in enumerate(batches, 1):
            optimizer.zero_grad()
            value = loss(model, batch)
            if not value.isfinite():
                raise FloatingPointError(f"the loss of {type(optimizer).__name__} became {value} in step {number}")
            value.backward()
            optimizer.step()
    seen: dict[str, list[tuple[float, float]]] = {}
    for record in telemetry.records:
        for name, own in record["weights"].items():
            if own["norm"] is not None and own["effective_step"] is not None:
                seen.setdefault(name, []).append((own["norm"], own["effective_step"]))
    trends = [_relative(pairs) for pairs in seen.values() if len(pairs) > 1]
    if not trends:
        raise ValueError("no scale-invariant weight had a gradient in these steps")
    return median(norm for norm, _ in trends), median(step for _, step in trends)


def _relative(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    end = max(len(pairs) // _ENDS, 1)
    first, last = (sum(step for _, step in part) / end for part in (pairs[:end], pairs[-end:]))
    return pairs[-1][0] / max(pairs[0][0], 1e-30), last / max(first, 1e-30)


def _repeated(batches: Iterable[Any], steps: int) -> list[Any]:
    def endless() -> Iterator[Any]:
        while True:
            read = 0
            for batch in batches:
                read += 1
                yield batch
            if not read:
                return

    if found := list(islice(endless(), steps)):
        if len(found) < steps:
            raise ValueError(f"the data ended after {len(found)} batches and cannot be read again; {steps} are needed")
        return found
    raise ValueError("the data have no batch")


def default_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a batch: the model's own where its output has one, cross entropy for classes, else squared error.

    Args:
        model: Called with `batch` by name if it is a mapping, else with the first of `(inputs, targets)`.
        batch: A mapping, or a pair of inputs and targets.

    Raises:
        ValueError: Nothing of that fits.

    Examples:
        >>> import torch
        >>> float(default_loss(nn.Identity(), (torch.ones(2, 3), torch.zeros(2, 3))))
        1.0
    """
    if isinstance(batch, Mapping):
        output = model(**batch)
        own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(own, Tensor):
            return own
        raise ValueError("the model's output has no loss for this batch; give one: --loss FILE.py:FUNCTION")
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(
            f"a batch of type {type(batch).__name__}: must be a mapping or a pair of inputs and targets; for another,"
            " give --loss FILE.py:FUNCTION, called with the model and the batch"
        )
    inputs, targets = batch
    output = model(inputs)
    if not targets.is_floating_point():
        return F.cross_entropy(output, targets)
    if output.shape != targets.shape:
        raise ValueError(f"outputs of shape {tuple(output.shape)} and targets of shape {tuple(targets.shape)} differ")
    return F.mse_loss(output, targets)

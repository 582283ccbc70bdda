"""Cost of a comparison: seconds of an epoch, measured before it starts, and the trials that a budget has room for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from tangential.experiments.training.loop import Training
from tangential.experiments.training.plan import Plan

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PATIENCE = 10.0
"""Seconds after which a probe stops, and its steps stand for the epoch."""

RESERVE = 0.75
"""Share of a budget that is planned for the steps that a probe measures; the rest is for saving, for watching retrained
runs (of `digits`, whose steps are short, up to a third of a run's time), for starting workers, and for the report."""

_WARM_UP = 2.0  # seconds: a first epoch that is shorter says little, so a second one is measured


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Expected seconds.

    Args:
        epoch: Seconds of an epoch on all training data, the mean over optimizers.
        workers: Processes that share the runs.
        trials: Runs of the tuning, without an extension.
        runs: Runs that are retrained, those for the noise floor included.
        seconds: All of them together.
        longest: With an extension at one side of every axis.
    """

    epoch: float
    workers: int
    trials: int
    runs: int
    seconds: float
    longest: float


class _Enough(Exception):
    """The probe has run long enough."""


def seconds_per_epoch(plan: Plan, fabric: Fabric) -> tuple[float, Training]:
    """Seconds that an epoch of a plan takes, test included; and the training that was probed. Nothing is written."""
    training = Training(plan, fabric)
    started = time.perf_counter()

    def pause() -> None:
        if time.perf_counter() - started > PATIENCE:
            raise _Enough

    try:
        seconds = training.run_epoch(pause)["seconds"]
        if seconds < _WARM_UP and plan.epochs > 1:
            seconds = training.run_epoch(pause)["seconds"]
        return seconds, training
    except _Enough:
        done = max(1, training.step) / training.batches
        return (time.perf_counter() - started) / done, training


def trials_within(minutes: float, *, run: float, optimizers: int, seeds: int, runs: int, held_out: float) -> int:
    """Most trials of each optimizer that a budget has room for, beside the retrained runs.

    Args:
        minutes: The budget.
        run: Seconds of a run on all training data.
        optimizers: Number of optimizers.
        seeds: Seeds of each trial.
        runs: Number of retrained runs.
        held_out: Share of the training data that a trial does not train on.

    Examples:
        >>> trials_within(10, run=4.0, optimizers=4, seeds=1, runs=40, held_out=0.2)
        22
    """
    left = RESERVE * 60 * minutes - runs * run
    return max(0, floor(left / (run * (1 - held_out) * optimizers * seeds)))

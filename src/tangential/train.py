"""The one training loop: a plan in, one record per epoch out, and a checkpoint from which it goes on bit for bit.

The loop knows what a task can do, not which task it is, and is handed an optimizer without knowing which.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tangential.runs import RunFolder, broken, replace_file
from tangential.task import Objective, Record, Task
from tangential.telemetry import directions, effective_step, matrices, mean_norm


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run: everything that decides its result.

    Args:
        task: What is learned.
        optimizer: Makes an optimizer from an objective's parameters, e.g. `partial(SGD, lr=0.1)`.
        schedule: Makes the learning rate schedule from the optimizer and the number of steps of the whole run.
        epochs: Passes over the training data.
        batch_size: Samples per step.
        seed: Decides the initial weights and the order of the data, whatever the optimizer.
    """

    task: Task
    optimizer: Callable[[Iterable[Any]], Optimizer]
    schedule: Callable[[Optimizer, int], LRScheduler]
    epochs: int
    batch_size: int
    seed: int


class _Player:
    """An objective with its optimizer and schedule."""

    def __init__(self, objective: Objective, plan: Plan, steps: int) -> None:
        self.name = objective.name
        self._loss = objective.loss
        self._optimizer = plan.optimizer(objective.parameters)
        for group in self._optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        self._schedule = plan.schedule(self._optimizer, steps)

    @property
    def lr(self) -> float:
        """The learning rate of the next step, in the first group."""
        return self._optimizer.param_groups[0]["lr"]

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """Take one step; the loss before it, detached."""
        loss = self._loss(model, batch)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self._optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])


class Training:
    """A model being trained, epoch by epoch.

    It seeds torch's global generator and draws from it, so one training at a time.

    Args:
        plan: What to train.

    Raises:
        ValueError: A setting out of range, as the task, the optimizer or the schedule says it.
    """

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.epoch = 0
        self._task = plan.task
        self._order = torch.Generator().manual_seed(plan.seed)
        self._batches = plan.task.batches("train", batch_size=plan.batch_size, order=self._order)
        self._test_batches = plan.task.batches("test", batch_size=plan.batch_size)
        self.model = plan.task.model()
        steps = plan.epochs * len(self._batches)
        self._players = [_Player(each, plan, steps) for each in plan.task.objectives(self.model)]

    def run_epoch(self) -> Record:
        """Train for one pass over the data and measure it.

        Returns:
            `epoch` (from 1), `train_loss` (mean over the steps), the task's scores as `test_<name>`, `weight_norm`
            (after the last step), `effective_step` (mean over the steps), `lr` (of the last step), `seconds` (the whole
            epoch) and `ms_per_step` (forward, backward and update, without the measuring).

        Raises:
            FloatingPointError: A loss, a score or a norm is not finite.
        """
        started = time.perf_counter()
        lr = self._players[-1].lr
        losses, moved, stepping = [], [], 0.0
        weights = matrices(self.model.parameters())
        before = directions(weights)
        self.model.train()
        for batch in self._batches:
            lr = self._players[-1].lr
            step_started = time.perf_counter()
            losses.append({each.name: each.step(self.model, batch) for each in self._players})
            stepping += time.perf_counter() - step_started
            after = directions(weights)
            moved.append(effective_step(before, after))
            before = after
        self.epoch += 1
        record = {
            "epoch": self.epoch,
            **self._mean_losses(losses),
            **{f"test_{name}": value for name, value in self._score().items()},
            "weight_norm": float(mean_norm(weights)),
            "effective_step": float(torch.stack(moved).mean()),
            "lr": float(lr),
        }
        _check_finite(record)
        return record | {"seconds": time.perf_counter() - started, "ms_per_step": 1000 * stepping / len(losses)}

    def _mean_losses(self, losses: list[dict[str, Tensor]]) -> Record:
        """Average over the steps: the last objective's as `train_loss`, any other's as `train_loss_<name>`."""
        means = {name: float(torch.stack([each[name] for each in losses]).mean()) for name in losses[0]}
        last = self._players[-1].name
        return {"train_loss": means.pop(last), **{f"train_loss_{name}": value for name, value in means.items()}}

    @torch.no_grad()
    def _score(self) -> Record:
        self.model.eval()
        return self._task.score(self.model, self._test_batches)

    def state_dict(self) -> dict[str, Any]:
        """Gather all that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "objectives": {each.name: each.state_dict() for each in self._players},
            "random": torch.get_rng_state(),
            "order": self._order.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        for each in self._players:
            each.load_state_dict(state["objectives"][each.name])
        torch.set_rng_state(state["random"])
        self._order.set_state(state["order"])
        self.epoch = state["epoch"]


def fit(plan: Plan, folder: RunFolder) -> Iterator[Record]:
    """Train what is left of a run in its folder, yielding the record of each epoch once it is safely on disk.

    A run that was killed at any moment goes on from its checkpoint and ends with the same bits as one that was not.

    Args:
        plan: What to train.
        folder: A folder that was started with this plan's settings.

    Raises:
        ValueError: A broken checkpoint or metrics file, named.
        FloatingPointError: A loss, a score or a norm is not finite; the folder keeps the last good epoch.
        OSError: The disk is full or the folder cannot be written.
    """
    training = Training(plan)
    state = load_checkpoint(folder)
    if state is not None:
        try:
            training.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise broken(folder.checkpoint, _first_line(error)) from error
    folder.rewind(training.epoch)
    while training.epoch < plan.epochs:
        record = training.run_epoch()
        folder.append(record)
        replace_file(folder.checkpoint, lambda file: torch.save(training.state_dict(), file))
        yield record


def load_checkpoint(folder: RunFolder) -> dict[str, Any] | None:
    """Read a run's latest checkpoint, without unpickling anything but tensors and plain values; None before the first.

    Raises:
        ValueError: The file is not a checkpoint of ours.
    """
    if not folder.checkpoint.exists():
        return None
    try:
        state = torch.load(folder.checkpoint, weights_only=True, map_location="cpu")
    except Exception as error:  # a cut or foreign file fails in as many ways as pickle, zip and torch have
        raise broken(folder.checkpoint, _first_line(error)) from error
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise broken(folder.checkpoint, "it is not a checkpoint of a run")
    return state


def epochs_done(folder: RunFolder) -> int:
    """Count the epochs that a resumed run would not train again.

    Raises:
        ValueError: A broken checkpoint or metrics file, named.
    """
    state = load_checkpoint(folder)
    done = 0 if state is None else int(state["epoch"])
    if len(folder.metrics()) < done:
        raise broken(folder.path / "metrics.jsonl", f"it ends before epoch {done} of the checkpoint")
    return done


def _check_finite(record: Record) -> None:
    for name, value in record.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} became {value} in epoch {record['epoch']}; try a smaller learning rate")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""An objective with its optimizer and schedule: what takes the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tangential.experiments.task import Objective
from tangential.experiments.training.devices import add_up, add_up_gradients
from tangential.experiments.training.finite import all_finite, first_affected
from tangential.experiments.training.resumable_loader import Part

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Player:
    """One objective of a run.

    Args:
        objective: What is minimised.
        optimizer: Makes the optimizer from the objective's parameters.
        schedule: Makes the schedule from the optimizer and the number of steps.
        steps: Steps of the whole run.
        fabric: Where it runs.
        clip_norm: Greatest norm of all gradients together.
        clip_value: Greatest absolute value of a gradient's element.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        steps: int,
        fabric: Fabric,
        clip_norm: float | None,
        clip_value: float | None,
    ) -> None:
        self.name = objective.name
        self._loss = objective.loss
        self._fabric = fabric
        self._clip_norm, self._clip_value = clip_norm, clip_value
        self.optimizer = optimizer(objective.parameters)
        for group in self.optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        self._schedule = schedule(self.optimizer, steps)
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)

    @property
    def lr(self) -> float:
        """The learning rate of the next step, in the first group."""
        return self.optimizer.param_groups[0]["lr"]

    def step(self, model: nn.Module, parts: Sequence[Part]) -> Tensor:
        """Take one step on a batch.

        Returns:
            The loss before the step over all processes, detached.

        Raises:
            FloatingPointError: The loss or a gradient is not finite; nothing was changed.
        """
        self.optimizer.zero_grad()
        loss = self._backward(model, parts)
        add_up(self._fabric, [loss])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        add_up_gradients(self._fabric, parameters)
        self._check_finite(model, loss, parameters)
        self._clip(model)
        self._update()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Gather what the next step depends on."""
        return {"optimizer": self.optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _backward(self, model: nn.Module, parts: Sequence[Part]) -> Tensor:
        losses = []
        for weight, samples in parts:
            with self._fabric.autocast():
                loss = self._loss(model, samples)
            if weight != 1:
                loss = loss * weight
            self._fabric.backward(loss)
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _check_finite(self, model: nn.Module, loss: Tensor, parameters: Iterable[Tensor]) -> None:
        # a scaled loss is meant to overflow its gradients now and then; the scaler leaves out that step
        grads = [] if self._scaler else [p.grad for p in parameters if p.grad is not None]
        if all_finite(loss, grads):
            return
        where = first_affected(model)
        if where or not bool(loss.isfinite()):
            name = f"train_loss_{self.name}" if self.name else "train_loss"
            raise FloatingPointError(f"{name} became {float(loss)}" + (f", {where}" if where else ""))

    def _clip(self, model: nn.Module) -> None:
        if self._clip_value is not None:
            self._fabric.clip_gradients(model, self.optimizer, clip_val=self._clip_value)
        if self._clip_norm is not None:
            self._fabric.clip_gradients(model, self.optimizer, max_norm=self._clip_norm, error_if_nonfinite=False)

    def _update(self) -> None:
        before = self._scaler.get_scale() if self._scaler else 0.0
        self._fabric.strategy.optimizer_step(self.optimizer)
        if not self._scaler or self._scaler.get_scale() >= before:  # else the step was left out
            self._schedule.step()

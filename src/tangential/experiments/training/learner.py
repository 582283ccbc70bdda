"""One objective with its optimizer, schedule and clipping: the part of a training that takes the steps.

A step on a batch that arrives as micro-batches `(weight, samples)`, the weights of all processes adding up to 1:

1. each micro-batch runs forward and backward; its loss is multiplied by its weight, so that the gradients of all
   micro-batches of all processes add up to that of the whole batch;
2. loss and gradients are summed over the processes;
3. they are checked: a number that is not finite stops the run here, while the weights are still good;
4. gradients are clipped, elements first, then their norm;
5. the optimizer steps, then the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tangential.experiments.task import Objective
from tangential.experiments.training.devices import add_up, add_up_gradients
from tangential.experiments.training.plan import TrainingOptions
from tangential.experiments.training.resumable_loader import MicroBatch

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Learner:
    """One objective with its optimizer, schedule and clipping.

    Args:
        objective: What is minimised.
        optimizer: Makes the optimizer from the objective's parameters.
        schedule: Makes the schedule from the optimizer and the number of steps.
        steps: Steps of the whole run.
        fabric: Where it runs.
        options: For its clipping.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        steps: int,
        fabric: Fabric,
        options: TrainingOptions,
    ) -> None:
        self.name = objective.name
        self._loss = objective.loss
        self._fabric = fabric
        self._options = options
        self.optimizer = optimizer(objective.parameters)
        for group in self.optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        self._schedule = schedule(self.optimizer, steps)
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)

    @property
    def lr(self) -> float:
        """Learning rate of the next step, in the first group."""
        return self.optimizer.param_groups[0]["lr"]

    def step(self, model: nn.Module, batch: Sequence[MicroBatch]) -> Tensor:
        """One step on a batch.

        Returns:
            The loss before the step over all processes, detached.

        Raises:
            FloatingPointError: The loss or a gradient is not finite; nothing was changed.
        """
        self.optimizer.zero_grad()
        loss = self._backward(model, batch)
        add_up(self._fabric, [loss])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        add_up_gradients(self._fabric, parameters)
        self._check_finite(model, loss, parameters)
        self._clip(parameters)
        self._update()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State that the next step depends on."""
        return {"optimizer": self.optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _backward(self, model: nn.Module, batch: Sequence[MicroBatch]) -> Tensor:
        losses = []
        for weight, samples in batch:
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
        if _all_finite(loss, grads):
            return
        where, value = first_affected(model), float(loss)
        name = f"train_loss_{self.name}" if self.name else "train_loss"
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} became {value}" + (f", {where}" if where else ""))
        if where:
            raise FloatingPointError(f"{name} is finite ({value:.4g}), but not all numbers are: {where}")

    def _clip(self, parameters: list[Tensor]) -> None:
        """Clip the gradients, first of all divided by the scale of the loss where it is scaled.

        Not by Fabric, which divides once for each limit, and refuses optimizers whose step divides by itself. The
        scaler passes such a step no scale where the gradients were divided before.
        """
        value, norm = self._options.clip_value, self._options.clip_norm
        if value is None and norm is None:
            return
        if self._scaler:
            self._scaler.unscale_(self.optimizer)
        if value is not None:
            nn.utils.clip_grad_value_(parameters, value)
        if norm is not None:
            nn.utils.clip_grad_norm_(parameters, norm)

    def _update(self) -> None:
        before = self._scaler.get_scale() if self._scaler else 0.0
        self._fabric.strategy.optimizer_step(self.optimizer)
        if not self._scaler or self._scaler.get_scale() >= before:  # else the step was left out
            self._schedule.step()


def first_affected(model: nn.Module) -> str:
    """Names of the first weights, in the order of the model, that are not finite; else of the first such gradients.

    Returns:
        A phrase, empty if everything is finite.

    Examples:
        >>> net = nn.Linear(2, 1)
        >>> net.weight.grad = torch.tensor([[1.0, float("inf")]])
        >>> first_affected(net)
        'the first gradients that are not finite: weight'
    """
    named = dict(model.named_parameters())
    weights = [name for name, p in named.items() if not bool(p.detach().isfinite().all())]
    grads = [name for name, p in named.items() if p.grad is not None and not bool(_values(p.grad).isfinite().all())]
    for word, names in (("weights", weights), ("gradients", grads)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            return f"the first {word} that are not finite: {', '.join(names[:3])}{more}"
    return ""


def _all_finite(loss: Tensor, gradients: Iterable[Tensor]) -> bool:
    """Whether a loss and its gradients are finite, with one value read back.

    A norm overflows where its elements do not yet, so False may be wrong, and `first_affected` decides.
    """
    total = torch.nn.utils.get_total_norm([_values(g) for g in gradients])
    return bool((loss + 0 * total.to(loss.device, loss.dtype)).isfinite())


def _values(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad

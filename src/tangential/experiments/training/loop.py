"""The training loop of every task: a plan in, one record per epoch out, and a state from which it resumes bit for bit.

    Plan -> Training: model, one `Learner` for each objective, `ResumableLoader`, test batches
    run_epoch:  for each batch    every learner takes its step; losses and effective step are kept on the device
                after the last    the task scores the model (or its moving average) on the test batches
                returns           one record: losses, scores, weight norm, effective step, learning rate, times
    state_dict: all that the next step depends on, after any step: weights, optimizers, schedules, the epoch so far, the
                random state, and the state of the generator that drew the order of the data

The loop uses the interface of a task and of a torch optimizer, whichever they are. In several processes each takes its
shard of every batch and all step alike, so their number is no setting of a run.

Why a resumed run has the same bits: the order of an epoch is drawn from a generator whose state before the epoch is in
the checkpoint; each micro-batch is loaded under a seed of its own; and torch's global generators are set back to where
they were after the last step once that order was drawn again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tangential.experiments.task import Record
from tangential.experiments.training.detected_blocks import optimizer_maker
from tangential.experiments.training.devices import (
    PRECISIONS,
    placed,
    random_states,
    same_weights,
    set_random_state,
    start,
)
from tangential.experiments.training.learner import Learner
from tangential.experiments.training.plan import Plan
from tangential.experiments.training.resumable_loader import MicroBatch, ResumableLoader, batches_of
from tangential.experiments.training.step_clock import StepClock
from tangential.experiments.training.sync_batchnorm import check_smallest_batch, share_batch_norm
from tangential.telemetry import matrices, mean_norm
from tangential.telemetry.weight_norms import Movement

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass
class _Epoch:
    """What the steps of the epoch under way add to its record; tensors stay on the device until its end."""

    losses: list[dict[str, Tensor]] = field(default_factory=list)
    moved: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    lr: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        names = self.losses[0] if self.losses else {}
        return {
            "losses": {name: torch.stack([each[name] for each in self.losses]) for name in names},
            "moved": torch.stack(self.moved) if self.moved else torch.empty(0),
            "seconds": self.seconds,
            "lr": self.lr,
        }

    @staticmethod
    def of(state: dict[str, Any], device: torch.device) -> _Epoch:
        losses = {name: values.to(device) for name, values in state["losses"].items()}
        moved = list(state["moved"].to(device))
        steps = [{name: values[i] for name, values in losses.items()} for i in range(len(moved))]
        return _Epoch(steps, moved, state["seconds"], state["lr"])


class Training:
    """A model being trained, epoch by epoch.

    It seeds torch's global generators and draws from them, so one training at a time.

    Args:
        plan: What to train.
        fabric: Where; one process on the best device there is if not given.

    Raises:
        ValueError: A setting out of range, as the task, the optimizer or the schedule reports it.
    """

    def __init__(self, plan: Plan, fabric: Fabric | None = None) -> None:
        options = plan.options
        self._fabric = fabric = start(precision=options.precision) if fabric is None else fabric
        if fabric.strategy.precision.precision != PRECISIONS[options.precision]:
            raise ValueError(f"precision={options.precision}, but the devices were set up for another")
        torch.manual_seed(plan.seed)
        self.epoch = 0
        self.batch = 0
        self._under_way = _Epoch()
        self._clock = StepClock(fabric.device)
        self._random: list[dict[str, Tensor]] | None = None
        self._plan = plan
        self._generator = torch.Generator().manual_seed(plan.seed)
        self._generator_state = self._generator.get_state()
        loader = plan.task.batches("train", batch_size=plan.batch_size, generator=self._generator)
        self._loader = ResumableLoader(loader, seed=plan.seed, fabric=fabric, accumulate=options.accumulate)
        self._test_batches = plan.task.batches("test", batch_size=plan.batch_size)
        self.datasets = {"train": loader.dataset, "test": self._test_batches.dataset}
        self.model = self._prepared(plan.task.model())
        self._average = _average(self.model, options.ema)
        objectives = plan.task.objectives(self.model)
        optimizer = optimizer_maker(plan, self.model, fabric)
        made: dict[str, Any] = {"optimizer": optimizer, "schedule": plan.schedule, "steps": self.steps}
        self._learners = [Learner(each, fabric=fabric, options=options, **made) for each in objectives]
        check_smallest_batch(self.model, objectives, self._loader, fabric, batch_size=plan.batch_size)
        if options.compile:
            self.model.compile()
        if fabric.global_rank:
            torch.manual_seed(plan.seed + (fabric.global_rank << 32))  # dropout differs where the samples do

    def _prepared(self, model: nn.Module) -> nn.Module:
        """The model in its precision, on its device, and one with those of the other processes."""
        if self._fabric.world_size > 1:
            model = share_batch_norm(model, self._fabric.device)
        model = self._fabric.to_device(self._fabric.strategy.precision.convert_module(model))
        same_weights(self._fabric, model)
        return model

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizer of each objective, by its name: what telemetry watches."""
        return {each.name: each.optimizer for each in self._learners}

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return len(self._loader)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self._plan.epochs * self.batches

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return self.epoch * self.batches + self.batch

    def run_epoch(self, pause: Callable[[], None] = lambda: None) -> Record:
        """Train for one pass over the data, or for what is left of it, and measure the model.

        Args:
            pause: Called after each step and between the batches of the test; `state_dict` may be taken in it, and an
                error that it raises stops the epoch there.

        Returns:
            `epoch` (from 1), `train_loss` (mean over the steps), the task's scores as `test_<name>`, `weight_norm`
            (after the last step), `effective_step` (mean over the steps), `lr` (of the last step), `seconds` (the whole
            epoch) and `ms_per_step` (forward, backward and update, without the measuring).

        Raises:
            FloatingPointError: A loss, a gradient, a score or a norm is not finite.
        """
        started = time.perf_counter() - self._under_way.seconds
        weights, movement = matrices(self.model.parameters()), Movement()
        movement.before(weights)
        self.model.train()
        for batch in self._loader.epoch(self.epoch, taken=self.batch, ready=self._restore_random):
            self._under_way.lr = float(self._learners[-1].lr)
            with self._clock:
                losses = self._step(batch)
            self._under_way.losses.append(losses)
            self._under_way.moved.append(movement.after(weights) / max(1, len(weights)))
            self.batch += 1
            self._under_way.seconds = time.perf_counter() - started
            pause()
        record = self._record(weights, self._score(pause)) | {"seconds": time.perf_counter() - started}
        record["ms_per_step"] = 1000 * self._clock.seconds() / len(self._under_way.losses)
        self._clock.reset()
        self.epoch, self.batch, self._under_way = self.epoch + 1, 0, _Epoch()
        self._generator_state = self._generator.get_state()
        return record

    def _step(self, batch: list[MicroBatch]) -> dict[str, Tensor]:
        """One step of each objective on a batch; their losses."""
        try:
            losses = {each.name: each.step(self.model, batch) for each in self._learners}
        except FloatingPointError as error:
            place = f"step {self.step + 1} (epoch {self.epoch + 1}, batch {self.batch + 1} of {self.batches})"
            raise FloatingPointError(f"{error} in {place}; try a smaller learning rate") from error
        if self._average is not None:
            self._average.update_parameters(self.model)
        return losses

    def _record(self, weights: list[Tensor], scores: Record) -> Record:
        record = {
            "epoch": self.epoch + 1,
            **self._mean_losses(self._under_way.losses),
            **{f"test_{name}": value for name, value in scores.items()},
            "weight_norm": float(mean_norm(weights)),
            "effective_step": float(torch.stack(self._under_way.moved).mean()),
            "lr": self._under_way.lr,
        }
        for name, value in record.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} became {value} in epoch {record['epoch']}; try a smaller learning rate"
                )
        return record

    def _mean_losses(self, losses: list[dict[str, Tensor]]) -> Record:
        """Mean over the steps: the last objective's as `train_loss`, any other's as `train_loss_<name>`."""
        means = {name: float(torch.stack([each[name] for each in losses]).mean()) for name in losses[0]}
        last = self._learners[-1].name
        return {"train_loss": means.pop(last), **{f"train_loss_{name}": value for name, value in means.items()}}

    @torch.no_grad()
    def _score(self, pause: Callable[[], None]) -> Record:
        """The task's scores on all test batches, computed in every process; the first one's count."""
        model = self.model if self._average is None else self._average.module
        self._random = random_states(self._fabric)  # a run that is stopped in the middle measures again
        model.eval()
        with self._fabric.autocast():
            scores = self._plan.task.score(model, _Paused(self._fabric, self._test_batches, pause))
        self._random = None
        return scores if self._fabric.world_size == 1 else self._fabric.broadcast(scores)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on; a collective call, as random states are gathered from every process."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "under_way": self._under_way.state_dict() | {"stepping": self._clock.seconds()},
            "model": self.model.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "objectives": {each.name: each.state_dict() for each in self._learners},
            "precision": self._fabric.strategy.precision.state_dict(),
            "random": self._random or random_states(self._fabric),
            "generator": self._generator_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave, in this version or in 0.1, in as many processes or in more or fewer."""
        self.model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        for each in self._learners:
            each.load_state_dict(state["objectives"][each.name])
        self._fabric.strategy.precision.load_state_dict(state["precision"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        self._under_way = _Epoch.of(state["under_way"], self._fabric.device)
        self._clock.reset(state["under_way"]["stepping"])
        self._random = state["random"]
        self._generator_state = state["generator"] if "generator" in state else state["order"]  # as 0.1 called it
        self._generator.set_state(self._generator_state)
        if not self.batch:
            self._restore_random()

    def _restore_random(self) -> None:
        """Set the generators as they were when the checkpoint was taken, after the epoch's order was drawn again."""
        if self._random and self._fabric.global_rank < len(self._random):
            set_random_state(self._fabric, self._random[self._fabric.global_rank])
        self._random = None


class _Paused:
    """Batches to measure on, placed where the model is, with a pause before each."""

    def __init__(self, fabric: Fabric, batches: Iterable[Any], pause: Callable[[], None]) -> None:
        self._fabric, self._batches, self._pause = fabric, batches, pause

    def __iter__(self) -> Iterator[Any]:
        for samples in batches_of(self._batches):
            self._pause()
            yield placed(self._fabric, samples)

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]


def _average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

"""A task that the package does not know, and a plan that trains it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.task import Objective
from tangential.experiments.training.plan import Plan
from tangential.experiments.training.schedules import cosine


@dataclass(frozen=True)
class Noisy:
    """A task that the package does not know, with dropout, so that it draws random numbers in every step."""

    images: int = 12

    def batches(self, split, *, batch_size, generator=None):
        draw = torch.Generator().manual_seed(1)
        data = TensorDataset(torch.randn(self.images, 3, generator=draw), torch.randn(self.images, 1, generator=draw))
        return DataLoader(data, batch_size=batch_size, shuffle=generator is not None, generator=generator)

    def model(self):
        return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def objectives(self, model):
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model, batch):
        inputs, targets = batch
        return (model(inputs) - targets).square().mean()

    def score(self, model, batches: Iterable):
        assert not model.training and not torch.is_grad_enabled()
        return {"loss": float(torch.stack([self.loss(model, batch) for batch in batches]).mean()), "accuracy": 0.5}


plan = Plan(
    task=Noisy(),
    optimizer=partial(torch.optim.SGD, lr=0.005, momentum=0.9),
    schedule=cosine,
    epochs=4,
    batch_size=4,
    seed=3,
)


def begin(path):
    folder = RunFolder(path)
    folder.start({"seed": 3}, {})
    return folder


long_plan = replace(plan, epochs=80)

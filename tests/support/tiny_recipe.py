"""A recipe that trains in hundredths of a second: whether points of a plane lie above a line, with noise."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tangential.experiments.recipes import Recipe
from tangential.experiments.recipes.recipe import PROJECTED, sgd_pair
from tangential.experiments.task import ACCURACY, Headline, Objective
from tangential.experiments.training.schedules import cosine


@dataclass(frozen=True)
class Plane:
    """Points with classes; a third of the data is for the test."""

    points: int = 90
    headline: Headline = ACCURACY

    def batches(self, split, *, batch_size, generator=None):
        draw = torch.Generator().manual_seed(3)
        places = torch.randn(self.points, 4, generator=draw)
        classes = (places.sum(1) + torch.randn(self.points, generator=draw) > 0).long()
        part = slice(self.points // 3) if split == "test" else slice(self.points // 3, None)
        data = TensorDataset(places[part], classes[part])
        return DataLoader(data, batch_size=batch_size, shuffle=generator is not None, generator=generator)

    def model(self):
        return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))

    def objectives(self, model):
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model, batch):
        return cross_entropy(model(batch[0]), batch[1])

    def score(self, model, batches: Iterable):
        outputs = [(model(places), classes) for places, classes in batches]
        right = torch.cat([logits.argmax(1) == classes for logits, classes in outputs])
        loss = torch.cat([cross_entropy(*each, reduction="none") for each in outputs])
        return {"accuracy": float(right.float().mean()), "loss": float(loss.mean())}

    def smoke(self):
        return self


tiny = Recipe(
    name="tiny",
    about="points above or below a line",
    task=Plane(),
    optimizers=sgd_pair(lr=0.1, momentum=0.9, weight_decay=1e-3),
    baselines={"sgdp": PROJECTED["sgdp"]},
    schedule=partial(cosine, end=0.1),
    epochs=2,
    batch_size=15,
)

"""Adversarial training (Madry et al., 2018): training on attacked images, and the accuracy on such images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tangential.experiments.data.images.in_memory import Batch, ImageData, loader
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.nets.normalized import normalized
from tangential.experiments.nets.wide_resnet import wide_resnet
from tangential.experiments.task import Headline, Objective, Record, Split
from tangential.experiments.tasks.attacks import Attack, attacked
from tangential.experiments.tasks.finite import at_least_one, number_correct


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Image classification under attack.

    Args:
        data: The data set.
        net: Makes the network, given `channels` and `classes`.
        attack: The attack in training.
        evaluation: The attack in testing.
        normalize: Whether the network normalises its images by the data's mean and deviation; the paper's does not.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Examples:
        >>> task = Adversarial(data=Gratings(side=8), net=partial(wide_resnet, depth=10, width=1))
        >>> batch = next(iter(task.batches("train", batch_size=4)))
        >>> task.loss(task.model(), batch).shape
        torch.Size([])
    """

    data: ImageData = field(default_factory=Gratings)
    net: partial[nn.Module] = field(default_factory=lambda: partial(wide_resnet))
    attack: Attack = field(default_factory=Attack)
    evaluation: Attack = field(default_factory=lambda: Attack(random_start=False))
    normalize: bool = False
    workers: int = 0

    @property
    def headline(self) -> Headline:
        """Accuracy under attack, in per cent."""
        return Headline("attacked_accuracy", "attacked accuracy (%)", scale=100.0)

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Dataloader of clean images, shuffled by `generator` if there is one."""
        return loader(self.data.load(split), batch_size=batch_size, generator=generator, workers=self.workers)

    def model(self) -> nn.Module:
        """A new network for this data."""
        net = self.net(channels=self.data.channels, classes=self.data.classes)
        return normalized(net, self.data.mean, self.data.std) if self.normalize else net

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Cross-entropy of attacked images, over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of an attacked batch, in nats."""
        images, classes = batch
        return cross_entropy(model(attacked(model, images, classes, self.attack)), classes)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over all images: `loss` and `accuracy` of clean ones, `attacked_loss` and `attacked_accuracy`.

        A random start, if the evaluation has one, is the same at every call.
        """
        generator = torch.Generator().manual_seed(0)
        sums: Record = defaultdict(float)
        count = 0
        for images, classes in at_least_one(batches):
            count += len(classes)
            changed = attacked(model, images, classes, self.evaluation, generator=generator)
            for prefix, inputs in (("", images), ("attacked_", changed)):
                logits = model(inputs)
                sums[prefix + "loss"] += float(cross_entropy(logits, classes, reduction="sum"))
                sums[prefix + "accuracy"] += number_correct(logits, classes)
        return {name: value / count for name, value in sums.items()}

    def smoke(self) -> Adversarial:
        """The same task on a few synthetic images of 8 x 8 pixels, with a narrow net and attacks of one step."""
        narrow = {"width": 1} if "width" in self.net.keywords else {}
        return replace(
            self,
            net=partial(self.net, **narrow),
            data=Gratings(side=8, mean=self.data.mean, std=self.data.std, padding=1, flip=True),
            attack=replace(self.attack, steps=1),
            evaluation=replace(self.evaluation, steps=1),
            workers=0,
        )

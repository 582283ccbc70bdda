"""Bias robustness by ReBias (Bahng et al., 2020): a net whose features shall not be those that a biased net learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tangential.experiments.data.images.biased_mnist import BiasedMnist
from tangential.experiments.data.images.in_memory import Batch, ImageData, loader
from tangential.experiments.nets.rebias import ReBias
from tangential.experiments.nets.simple_conv import simple_conv_net
from tangential.experiments.task import Headline, Objective, Split
from tangential.experiments.tasks.hsic import hsic


class BiasedData(ImageData, Protocol):
    """Images whose test batches are marked, and how their scores are made of the marks."""

    @property
    def scores(self) -> Callable[..., dict[str, float]]:
        """Measure `unbiased_accuracy` and others, from 0 to 1, by which images were read right, classes and marks."""
        ...

    def smoke(self) -> BiasedData:
        """Give a few images of the same kind that need no data."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Learn the class of an image, not the bias of its data set.

    Two nets are trained: `g` can only see the bias, and `f` is wanted. In every step first `g` minimises its
    cross-entropy less the dependence (HSIC) of the two nets' features, so that it resembles `f`; then `f` minimises its
    cross-entropy plus the dependence, so that it differs from `g`.

    Args:
        data: The data set.
        f: Makes the net that is wanted, given `channels` and `classes`.
        g: Makes the biased net likewise.
        f_weight: Weight of the dependence in the loss of `f`.
        g_weight: Weight of the dependence in the loss of `g`.
        bandwidth: σ of the Gaussian kernels; None for the median distance within each batch.
        workers: Processes that load images from disk; 0 loads in the training's own.

    Raises:
        ValueError: A bandwidth that is not positive.

    Example:
        >>> task = Bias().smoke()
        >>> [objective.name for objective in task.objectives(task.model())]
        ['g', 'f']
    """

    data: BiasedData = field(default_factory=BiasedMnist)
    f: partial[nn.Module] = field(default_factory=lambda: partial(simple_conv_net, kernel=7))
    g: partial[nn.Module] = field(default_factory=lambda: partial(simple_conv_net, kernel=1))
    f_weight: float = 1.0
    g_weight: float = 1.0
    bandwidth: float | None = 1.0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.bandwidth is not None and self.bandwidth <= 0:
            raise ValueError(f"bandwidth={self.bandwidth}: must be positive, or none for the median")

    @property
    def headline(self) -> Headline:
        """Accuracy where the bias tells nothing, in per cent."""
        return Headline("unbiased_accuracy", "unbiased accuracy (%)", scale=100.0)

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Give the batches of one pass; in training without a last smaller one, too small for HSIC maybe."""
        train = split == "train"
        images = self.data.load(split)
        if train and len(images) < batch_size:  # type: ignore[arg-type]  # torch's Dataset leaves out its length
            raise ValueError(f"batch_size={batch_size}: there are only {len(images)} training images")  # type: ignore[arg-type]
        return loader(images, batch_size=batch_size, generator=generator, workers=self.workers, drop_last=train)

    def model(self) -> ReBias:
        """Make two new nets for this data."""
        nets = [net(channels=self.data.channels, classes=self.data.classes) for net in (self.f, self.g)]
        return ReBias(*nets, mean=self.data.mean, std=self.data.std)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Let `g` take its step first, then `f`."""
        f, g = (list(model.get_submodule(name).parameters()) for name in ("f", "g"))
        return [Objective(self.g_loss, g, name="g"), Objective(self.f_loss, f, name="f")]

    def g_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Give the cross-entropy of `g` less its weighted dependence on `f`."""
        images, classes = batch
        (_, wanted), (logits, biased) = model(images, "g")
        return cross_entropy(logits, classes) - self.g_weight * self._dependence(wanted, biased)

    def f_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Give the cross-entropy of `f` plus its weighted dependence on `g`."""
        images, classes = batch
        (logits, wanted), (_, biased) = model(images, "f")
        return cross_entropy(logits, classes) + self.f_weight * self._dependence(wanted, biased)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure `f`: `loss` (mean over all test images, nats) and what the data set makes of its marks."""
        loss, answers = 0.0, []
        for images, classes, *marks in batches:
            logits = model(images)
            loss += float(cross_entropy(logits, classes, reduction="sum"))
            answers.append((logits.argmax(dim=1) == classes, classes, *marks))
        right, classes, *marks = (torch.cat(each) for each in zip(*answers, strict=True))
        return {"loss": loss / len(right), **self.data.scores(right, classes, *marks)}

    def smoke(self) -> Bias:
        """Make the same task on a few generated images."""
        return replace(self, data=self.data.smoke(), workers=0)

    def _dependence(self, wanted: Tensor, biased: Tensor) -> Tensor:
        return hsic(wanted, biased, bandwidth=self.bandwidth)

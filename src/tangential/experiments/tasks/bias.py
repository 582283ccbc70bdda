"""Bias robustness by ReBias (Bahng et al., 2020): features of a net f independent of those of a biased net g."""

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
from tangential.experiments.tasks.finite import all_finite, at_least_one, undefined
from tangential.experiments.tasks.hsic import hsic


class BiasedData(ImageData, Protocol):
    """Interface of images whose test batches have bias marks, and of the metrics that use them."""

    @property
    def scores(self) -> Callable[..., dict[str, float]]:
        """Metrics `unbiased_accuracy` and others, from 0 to 1, of correct predictions `(n,)`, classes and marks."""
        ...

    def smoke(self) -> BiasedData:
        """A few synthetic images of the same kind."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Image classification that is robust against the bias of its training data.

    The architecture of `g` limits it to the bias, as a receptive field of one pixel limits it to colour. In every step
    first `g` minimises its cross-entropy minus the dependence (HSIC) of the two nets' features; then `f` minimises its
    cross-entropy plus the dependence.

    Args:
        data: The data set.
        f: Makes the debiased net, given `channels` and `classes`.
        g: Makes the biased net likewise.
        f_weight: Weight of HSIC in the loss of `f`.
        g_weight: Weight of HSIC in the loss of `g`.
        bandwidth: σ of the Gaussian kernels; None for the median distance within each batch.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Raises:
        ValueError: A bandwidth that is not positive.

    Examples:
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
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth={self.bandwidth}: must be positive, or none for the median")

    @property
    def headline(self) -> Headline:
        """Accuracy on test images without the bias, in per cent."""
        return Headline("unbiased_accuracy", "unbiased accuracy (%)", scale=100.0)

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Dataloader; in training it drops a smaller last batch, which may have too few samples for HSIC."""
        train = split == "train"
        images = self.data.load(split)
        if train and len(images) < batch_size:  # type: ignore[arg-type]  # torch's Dataset leaves out its length
            raise ValueError(f"batch_size={batch_size}: there are only {len(images)} training images")  # type: ignore[arg-type]
        return loader(images, batch_size=batch_size, generator=generator, workers=self.workers, drop_last=train)

    def model(self) -> ReBias:
        """New nets `f` and `g` for this data."""
        nets = [net(channels=self.data.channels, classes=self.data.classes) for net in (self.f, self.g)]
        return ReBias(*nets, mean=self.data.mean, std=self.data.std)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """One objective per net: `g` takes its step first, then `f`."""
        f, g = (list(model.get_submodule(name).parameters()) for name in ("f", "g"))
        return [Objective(self.g_loss, g, name="g"), Objective(self.f_loss, f, name="f")]

    def g_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of `g` minus weighted HSIC."""
        images, classes = batch
        (_, debiased), (logits, biased) = model(images, "g")
        return cross_entropy(logits, classes) - self.g_weight * hsic(debiased, biased, bandwidth=self.bandwidth)

    def f_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of `f` plus weighted HSIC."""
        images, classes = batch
        (logits, debiased), (_, biased) = model(images, "f")
        return cross_entropy(logits, classes) + self.f_weight * hsic(debiased, biased, bandwidth=self.bandwidth)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics of `f`: `loss` (mean over all test images, nats) and those of the data set."""
        loss, judged, finite = 0.0, [], True
        for images, classes, *marks in at_least_one(batches):
            logits = model(images)
            loss += float(cross_entropy(logits, classes, reduction="sum"))
            finite = finite and all_finite(logits)
            judged.append((logits.argmax(dim=1) == classes, classes, *marks))
        right, classes, *marks = (torch.cat(each) for each in zip(*judged, strict=True))
        scores = self.data.scores(right, classes, *marks)
        return {"loss": loss / len(right), **(scores if finite else undefined(scores))}

    def smoke(self) -> Bias:
        """The same task on a few synthetic images."""
        return replace(self, data=self.data.smoke(), workers=0)

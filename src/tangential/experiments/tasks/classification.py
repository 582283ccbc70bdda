"""Image classification: cross-entropy, and accuracy on the test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tangential.experiments.data.images.digits import Digits
from tangential.experiments.data.images.in_memory import Batch, ImageData, loader
from tangential.experiments.nets.normalized import normalized
from tangential.experiments.nets.small import conv_net
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import ACCURACY, Headline, Objective, Split
from tangential.experiments.tasks.finite import at_least_one, number_correct


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Image classification.

    Args:
        data: The data set.
        net: Makes the network, given `channels` and `classes`; images are normalised before it.
        label_smoothing: Share of the target distribution that is uniform over the classes, in training.
        cutmix: CutMix in training, the area drawn from Beta(cutmix, cutmix); 0 for none.
        mixup: Mixup in training, the weight drawn from Beta(mixup, mixup); with both, each batch draws one of the two.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Raises:
        ValueError: A share outside 0 to 1, or a negative number.

    Examples:
        >>> task = Classification(data=Digits(limit=32))
        >>> images, classes = next(iter(task.batches("train", batch_size=8)))
        >>> images.shape, task.model()(images).shape
        (torch.Size([8, 1, 8, 8]), torch.Size([8, 10]))
    """

    data: ImageData = field(default_factory=Digits)
    net: partial[nn.Module] = field(default_factory=lambda: partial(conv_net))
    label_smoothing: float = 0.0
    cutmix: float = 0.0
    mixup: float = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}: must be from 0 to below 1")
        check_at_least(0, cutmix=self.cutmix, mixup=self.mixup, workers=self.workers)

    @property
    def headline(self) -> Headline:
        """Accuracy, in per cent."""
        return ACCURACY

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Dataloader, shuffled by `generator` if there is one."""
        return loader(self.data.load(split), batch_size=batch_size, generator=generator, workers=self.workers)

    def model(self) -> nn.Module:
        """A new network for this data."""
        net = self.net(channels=self.data.channels, classes=self.data.classes)
        return normalized(net, self.data.mean, self.data.std)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Cross-entropy, over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch with CutMix, mixup and label smoothing, in nats."""
        images, targets = self.mixed(*batch)
        return cross_entropy(model(images), targets, label_smoothing=self.label_smoothing)

    def mixed(self, images: Tensor, classes: Tensor) -> Batch:
        """CutMix or mixup of a batch, if one is set.

        Returns:
            The images, and either the classes `(batch,)` or soft targets `(batch, classes)`.
        """
        kinds = [name for name in ("cutmix", "mixup") if getattr(self, name) > 0]
        if not kinds:
            return images, classes
        kind = kinds[int(torch.randint(len(kinds), ()))]
        return _mixer(kind, getattr(self, kind), self.data.classes)(images, classes)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over all images: `loss` (mean, nats) and `accuracy` (from 0 to 1, NaN of logits not finite)."""
        loss, right, count = 0.0, 0.0, 0
        for images, classes in at_least_one(batches):
            logits = model(images)
            loss += float(cross_entropy(logits, classes, reduction="sum"))
            right += number_correct(logits, classes)
            count += len(classes)
        return {"loss": loss / count, "accuracy": right / count}

    def smoke(self) -> Classification:
        """The same task on a few images that need no data, for a run of seconds."""
        return replace(self, data=self.data.smoke(), workers=0)


def _mixer(kind: str, alpha: float, classes: int) -> Any:
    from torchvision.transforms import v2  # imported late: it takes a second, and most tasks do not need it

    return {"cutmix": v2.CutMix, "mixup": v2.MixUp}[kind](alpha=alpha, num_classes=classes)

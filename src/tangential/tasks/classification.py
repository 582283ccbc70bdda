"""Image classification: cross-entropy, and the share of test images whose class is named right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tangential.data.digits import Batch, Digits
from tangential.nets.small import conv_net
from tangential.task import ACCURACY, Headline, Objective, Split


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Learn the class of an image.

    Args:
        data: The data set.
        net: Makes the network, given `channels` and `classes`.

    Example:
        >>> task = Classification(data=Digits(limit=32))
        >>> images, classes = next(iter(task.batches("train", batch_size=8)))
        >>> images.shape, task.model()(images).shape
        (torch.Size([8, 1, 8, 8]), torch.Size([8, 10]))
    """

    data: Digits = field(default_factory=Digits)
    net: partial[nn.Module] = field(default_factory=lambda: partial(conv_net))

    @property
    def headline(self) -> Headline:
        """Accuracy, in per cent."""
        return ACCURACY

    def batches(self, split: Split, *, batch_size: int, order: torch.Generator | None = None) -> DataLoader[Batch]:
        """Give the batches of one pass, shuffled by `order` if there is one."""
        images = self.data.load(split)
        # The data set hands over whole batches already, so there is nothing to collate.
        return DataLoader(
            images, batch_size=batch_size, shuffle=order is not None, generator=order, collate_fn=lambda batch: batch
        )

    def model(self) -> nn.Module:
        """Make a new network for this data."""
        return self.net(channels=self.data.channels, classes=self.data.classes)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Minimise the cross-entropy over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Average the cross-entropy over a batch, in nats."""
        images, classes = batch
        return cross_entropy(model(images), classes)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure over all images: `loss` (mean, nats) and `accuracy` (from 0 to 1)."""
        loss, right, count = 0.0, 0, 0
        for images, classes in batches:
            logits = model(images)
            loss += float(cross_entropy(logits, classes, reduction="sum"))
            right += int((logits.argmax(dim=1) == classes).sum())
            count += len(classes)
        return {"loss": loss / count, "accuracy": right / count}

    def smoke(self) -> Classification:
        """Make the same task on 16 images, for a run of seconds."""
        return replace(self, data=replace(self.data, limit=16))

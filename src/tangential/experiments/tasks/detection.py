"""Object detection: a detector's own losses, and the average precision of its boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tangential.experiments.data.boxes.annotated import Batch, collate
from tangential.experiments.data.boxes.coco import Coco
from tangential.experiments.data.boxes.synthetic import Shapes
from tangential.experiments.data.boxes.transforms import SquareView, StretchedView
from tangential.experiments.data.boxes.voc import Voc
from tangential.experiments.nets.centernet import centernet
from tangential.experiments.settings.overrides import FIXED
from tangential.experiments.task import Headline, Objective, Split
from tangential.experiments.tasks.average_precision import coco_precision, voc_precision
from tangential.experiments.tasks.finite import at_least_one

AP = Headline("ap", "AP (%)", scale=100.0)
AP50 = Headline("ap50", "AP50 (%)", scale=100.0)
SMOKE_WIDTH = 8


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Object detection.

    Args:
        data: The data set.
        view: Transform of training and test images.
        net: Makes the network, given `classes`, without the background, and `size`, that of the view. In training
            mode it is called with images and targets and returns a dict of losses; in evaluation mode with images, and
            returns the boxes, labels and scores of each: the interface of torchvision's detectors.
        headline: The metric that the comparison is about.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Examples:
        >>> from tangential.experiments.nets.centernet import plain_neck
        >>> net = partial(centernet, width=4, blocks=1, neck=partial(plain_neck))
        >>> task = Detection(data=Shapes(), view=SquareView(size=64), net=net)
        >>> batch = next(iter(task.batches("train", batch_size=4)))
        >>> task.loss(task.model(), batch).shape
        torch.Size([])
    """

    data: Voc | Coco | Shapes = field(default_factory=Coco)
    view: SquareView | StretchedView = field(default_factory=SquareView)
    net: partial[nn.Module] = field(default_factory=lambda: partial(centernet))
    headline: Headline = field(default=AP, metadata=FIXED)
    workers: int = 0

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Dataloader of `data.boxes.annotated.Batch`, shuffled by `generator` if there is one."""
        return DataLoader(
            self.data.load(split, self.view.transform(split)),
            batch_size=self.view.batch_size(split, batch_size),
            shuffle=generator is not None,
            generator=generator,
            collate_fn=collate,
            num_workers=self.workers,
        )

    def model(self) -> nn.Module:
        """A new network for these classes and this size."""
        return self.net(classes=len(self.data.categories), size=self.view.size)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Sum of the detector's losses, over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum of the detector's losses on a batch."""
        images, targets = batch
        return torch.stack(list(model(images, targets).values())).sum()

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over all images: COCO's `ap`, `ap50` and `ap75`, and Pascal's `voc_ap`, from 0 to 1."""
        found, truths = [], []
        for images, targets in at_least_one(batches):
            found += [_on_cpu(each) for each in model(images)]
            truths += [_on_cpu(each) for each in targets]
        return coco_precision(found, truths) | {"voc_ap": voc_precision(found, truths)}

    def smoke(self) -> Detection:
        """The same task on 16 synthetic images, with a narrow network, for a run of seconds."""
        narrow = partial(self.net, **self.net.keywords | {"width": SMOKE_WIDTH, "weights": None})
        return replace(self, data=Shapes(), view=self.view.smoke(), net=narrow, workers=0)


def _on_cpu(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in values.items()}

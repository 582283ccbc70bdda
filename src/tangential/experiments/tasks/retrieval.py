"""Image retrieval by metric learning: an embedding in which images of one class are near, tested on other classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tangential.experiments.data.images.class_balanced import ClassBalanced
from tangential.experiments.data.images.in_memory import Batch, ImageData, loader
from tangential.experiments.data.images.omniglot import Omniglot
from tangential.experiments.nets.embedding import MetricNet, embedder
from tangential.experiments.nets.normalized import normalized
from tangential.experiments.nets.small import conv_stack
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Headline, Objective, Split
from tangential.experiments.tasks.finite import at_least_one
from tangential.experiments.tasks.metric_losses import proxy_anchor
from tangential.experiments.tasks.recall import recall


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Metric learning: retrieval of images of a query's class by the cosine of embeddings.

    Args:
        data: The images. Classes of training and test should be disjoint. Test batches may have a third element of
            booleans `(batch,)`: which images are queries, the others being the gallery. Without it every image is a
            query, and all others its gallery.
        net: Makes the embedding net, given `channels` and `dim`; `nets.embedding.embedder` or one that also has its
            arguments `body` and `weights`.
        criterion: Makes the loss, given `classes` and `dim`.
        dim: Dimension of the embedding.
        per_class: Images of each class in a class-balanced training batch; 0 for random batches.
        proxy_scale: Learning rate of the proxies, as a multiple of the others'.
        at: The K of Recall@K; 1 is always among them.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Raises:
        ValueError: A number that is negative, or K below one.

    Examples:
        >>> task = Retrieval().smoke()
        >>> images, classes = next(iter(task.batches("train", batch_size=8)))
        >>> task.model()(images).shape
        torch.Size([8, 512])
    """

    data: ImageData = field(default_factory=Omniglot)
    net: partial[nn.Module] = field(default_factory=lambda: partial(embedder))
    criterion: partial[nn.Module] = field(default_factory=lambda: partial(proxy_anchor))
    dim: int = 512
    per_class: int = 0
    proxy_scale: float = 100.0
    at: tuple[int, ...] = (1, 2, 4, 8)
    workers: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, per_class=self.per_class, proxy_scale=self.proxy_scale, workers=self.workers)
        check_at_least(1, at=self.at)

    @property
    def headline(self) -> Headline:
        """Recall@1, in per cent."""
        return Headline("recall_at_1", "Recall@1 (%)", scale=100.0)

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Dataloader; in training without a smaller last batch, and class-balanced if `per_class` is set."""
        images = self.data.load(split)
        if split == "train" and len(images) < batch_size:  # type: ignore[arg-type]  # torch's Dataset leaves it out
            raise ValueError(f"batch_size={batch_size}: there are only {len(images)} training images")  # type: ignore[arg-type]
        plain = partial(loader, images, batch_size=batch_size, workers=self.workers)
        if split == "test" or generator is None or not self.per_class:
            return plain(generator=generator, drop_last=split == "train")
        drawn = ClassBalanced(_classes(images), batch_size, self.per_class, generator)
        return plain(generator=generator, batches=drawn)

    def model(self) -> MetricNet:
        """A new embedding net with its loss, which holds the proxies."""
        net = self.net(channels=self.data.channels, dim=self.dim)
        criterion = self.criterion(classes=self.data.classes, dim=self.dim)
        return MetricNet(normalized(net, self.data.mean, self.data.std), criterion)

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """The loss, over three groups: head, body (marked `pretrained`) and proxies."""
        parts: dict[str, list[nn.Parameter]] = {"head": [], "body": [], "criterion": []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                words = name.split(".")
                parts["criterion" if words[0] == "criterion" else "body" if "body" in words else "head"].append(
                    parameter
                )
        groups: list[dict[str, Any]] = [
            {"params": parts["head"]},
            {"params": parts["body"], "pretrained": True},
            {"params": parts["criterion"], "lr_scale": self.proxy_scale},
        ]
        return [Objective(self.loss, [group for group in groups if group["params"]])]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of a batch, in float32 at least: `exp(alpha * cosine)` overflows in half precision."""
        images, classes, *_ = batch
        embeddings = model(images)
        embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        with torch.autocast(embeddings.device.type, enabled=False):
            return model.get_submodule("criterion")(embeddings, classes)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics `recall_at_K` over all queries, from 0 to 1; see `tangential.experiments.tasks.recall`."""
        return self.metrics(*embedded(model, batches))

    def metrics(self, embeddings: Tensor, classes: Tensor, queries: Tensor | None) -> dict[str, float]:
        """Metrics of embeddings, in the form that `embedded` returns."""
        at = sorted({1, *self.at})
        if queries is None:
            recalls = recall(embeddings, classes, at=at)
        else:
            recalls = recall(embeddings[queries], classes[queries], embeddings[~queries], classes[~queries], at=at)
        return {f"recall_at_{k}": share for k, share in zip(at, recalls, strict=True)}

    def smoke(self) -> Retrieval:
        """The same task on a few synthetic images, with a small body of random weights, for a run of seconds."""
        small = {"weights": None, "body": partial(conv_stack, width=8)}
        return replace(self, data=self.data.smoke(), net=partial(self.net, **small), workers=0)


def embedded(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Embeddings of all images.

    Returns:
        Embeddings `(count, dim)`, at least float32, classes `(count,)`, and a mask of the queries `(count,)`, or None
        if the batches have none.
    """
    parts = []
    for images, classes, *marks in at_least_one(batches):
        embeddings = model(images)
        parts.append((embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), classes, *marks))
    embeddings, classes, *marks = (torch.cat(each) for each in zip(*parts, strict=True))
    return embeddings, classes, marks[0].bool() if marks else None


def _classes(images: Any) -> Tensor:
    """Classes of all images of a data set, in memory or on disk."""
    known = getattr(images, "classes", None)
    return torch.tensor([label for _, label in images.samples]) if known is None else known

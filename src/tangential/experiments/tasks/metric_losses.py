"""The losses of metric learning that the paper uses, both from pytorch-metric-learning."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn


def proxy_anchor(*, classes: int, dim: int, margin: float = 0.1, alpha: float = 32.0) -> nn.Module:
    """Make the Proxy-Anchor loss (Kim et al., 2020), which has a learned proxy for each class.

    With cosines s of embeddings x and proxies p, P the proxies and P+ those with images of their class in the batch,
    it is the mean over P+ of `log(1 + Σ exp(-alpha (s - margin)))` over the images of the proxy's class, plus the mean
    over P of `log(1 + Σ exp(alpha (s + margin)))` over the others. Only the proxies' directions matter: each row is
    scale-invariant.

    Args:
        classes: Classes of the training images.
        dim: Numbers of an embedding.
        margin: Added to what is pushed away, and taken from what is pulled.
        alpha: How much the hardest images count before the others.

    Returns:
        From embeddings `(batch, dim)` and classes `(batch,)` to the loss; its parameter `proxies` is `(classes, dim)`.

    Raises:
        ValueError: pytorch-metric-learning is not installed.
    """
    return _part("losses").ProxyAnchorLoss(num_classes=classes, embedding_size=dim, margin=margin, alpha=alpha)


def semihard_triplet(*, classes: int, dim: int, margin: float = 0.1) -> nn.Module:
    """Make the triplet loss on semi-hard triplets (Schroff et al., 2015): the negative farther, but within the margin.

    It is the mean of `distance(anchor, positive) - distance(anchor, negative) + margin` over all such triplets of a
    batch, with Euclidean distances, and zero if there is none. It has no parameters.

    Args:
        classes: Not needed.
        dim: Not needed.
        margin: By how much nearer the positive shall be.

    Raises:
        ValueError: pytorch-metric-learning is not installed.
    """
    del classes, dim
    return _Mined(_part("losses").TripletMarginLoss(margin=margin), _part("miners").TripletMarginMiner, margin)


class _Mined(nn.Module):
    def __init__(self, loss: nn.Module, miner: Any, margin: float) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner(margin=margin, type_of_triplets="semihard")

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        return self.loss(embeddings, classes, self.miner(embeddings, classes))


def _part(name: str) -> Any:
    """A module of pytorch-metric-learning, which costs seconds to import, and most tasks do without."""
    try:
        return importlib.import_module(f"pytorch_metric_learning.{name}")
    except ModuleNotFoundError as error:
        raise ValueError("retrieval needs pytorch-metric-learning: pip install 'tangential[retrieval]'") from error

"""Losses of metric learning: Proxy-Anchor and semi-hard triplets, both from pytorch-metric-learning."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn


def proxy_anchor(*, classes: int, dim: int, margin: float = 0.1, alpha: float = 32.0) -> nn.Module:
    """Proxy-Anchor loss (Kim et al., 2020), with a learned proxy for each class.

    With cosines s of embeddings x and proxies p, P the proxies and P+ those with images of their class in the batch,
    it is the mean over P+ of `log(1 + Σ exp(-alpha (s - margin)))` over the images of the proxy's class, plus the mean
    over P of `log(1 + Σ exp(alpha (s + margin)))` over the others. Only the proxies' directions matter: each row is
    scale-invariant.

    Args:
        classes: Classes of the training images.
        dim: Dimension of the embedding.
        margin: Of the cosine, between positives and negatives.
        alpha: Inverse temperature: the greater, the more the hardest images dominate.

    Returns:
        From embeddings `(batch, dim)` and classes `(batch,)` to the loss; its parameter `proxies` is `(classes, dim)`.

    Raises:
        ValueError: pytorch-metric-learning is not installed.
    """
    return _library("losses").ProxyAnchorLoss(num_classes=classes, embedding_size=dim, margin=margin, alpha=alpha)


def semihard_triplet(*, classes: int, dim: int, margin: float = 0.1) -> nn.Module:
    """Triplet loss on semi-hard triplets (Schroff et al., 2015): the negative is farther, but within the margin.

    It is the mean of `distance(anchor, positive) - distance(anchor, negative) + margin` over all such triplets of a
    batch, with Euclidean distances, and zero if there is none. It has no parameters.

    Args:
        classes: Unused.
        dim: Unused.
        margin: Between the distances of positive and negative.

    Raises:
        ValueError: pytorch-metric-learning is not installed.
    """
    del classes, dim
    return _Mined(_library("losses").TripletMarginLoss(margin=margin), _library("miners").TripletMarginMiner, margin)


class _Mined(nn.Module):
    def __init__(self, loss: nn.Module, miner: Any, margin: float) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner(margin=margin, type_of_triplets="semihard")

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        return self.loss(embeddings, classes, self.miner(embeddings, classes))


def _library(name: str) -> Any:
    """A module of pytorch-metric-learning, imported late: it takes seconds, and most tasks do not need it."""
    try:
        return importlib.import_module(f"pytorch_metric_learning.{name}")
    except ModuleNotFoundError as error:
        raise ValueError("retrieval needs pytorch-metric-learning: pip install 'tangential[retrieval]'") from error

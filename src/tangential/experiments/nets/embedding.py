"""Embedding nets: any classifier, cut before its last layer, that maps an image to a point on the unit sphere.

The published metric-learning nets add global maximum pooling to global average pooling of the last feature maps, apply
a linear layer of 512 outputs and divide by the norm. Because of that division the last layer is scale-invariant as a
whole if it has no bias.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, normalize
from torch.nn.modules.batchnorm import _BatchNorm

from tangential.experiments.nets.by_name import by_name
from tangential.experiments.nets.pretrained import load_weights, pretrained
from tangential.experiments.nets.rebias import BodyAndHead
from tangential.experiments.settings.bounds import check_at_least

POOLINGS = ("sum", "own")


class SummedPool(nn.Module):
    """Global average plus global maximum pooling: `(batch, channels, h, w)` to `(batch, channels, 1, 1)`.

    Examples:
        >>> import torch
        >>> SummedPool()(torch.tensor([[[[0.0, 4.0]]]])).item()
        6.0
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Pool."""
        return adaptive_avg_pool2d(maps, 1) + adaptive_max_pool2d(maps, 1)


class Embedder(nn.Module):
    """Body, linear head, and L2 normalisation.

    Args:
        body: From images to features `(batch, features)`.
        head: From features to `(batch, dim)`.
        frozen_norms: Whether every BatchNorm of the body stays in evaluation mode, with constant gain and bias.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, *, frozen_norms: bool = False) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.frozen_norms = frozen_norms
        for norm in self._frozen():
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Embedder:
        """Set training or evaluation mode; frozen BatchNorms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen():
            norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors `(batch, dim)` of images `(batch, channels, height, width)`."""
        return normalize(self.head(self.body(images)), dim=1)

    def _frozen(self) -> list[nn.Module]:
        # Searched at each call: training in several processes replaces the BatchNorms by synchronised ones.
        return [each for each in self.body.modules() if self.frozen_norms and isinstance(each, _BatchNorm)]


class MetricNet(nn.Module):
    """An embedding net and its loss, whose proxies, if it has any, are parameters of the model.

    Args:
        net: From images to embeddings `(batch, dim)`.
        criterion: From embeddings and classes `(batch,)` to the loss.
    """

    def __init__(self, net: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.criterion = criterion

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors `(batch, dim)` of images."""
        return self.net(images)


_RESNET_50 = partial(by_name, name="resnet50")


def embedder(
    *,
    channels: int,
    dim: int,
    body: partial[nn.Module] = _RESNET_50,
    weights: str | None = None,
    pooling: str = "sum",
    frozen_norms: bool = False,
    bias: bool = True,
) -> Embedder:
    """Embedding net made of a classifier.

    Args:
        channels: Channels of the images.
        dim: Dimension of the embedding.
        body: Makes the classifier, given `channels` and `classes`; its last linear layer is replaced.
        weights: Pretrained weights of the body: a file, or torchvision's name of a set; None for random ones.
        pooling: "sum" adds the maximum to the net's global average pooling; "own" leaves the net as it is.
        frozen_norms: Whether BatchNorms are frozen, as is usual in fine-tuning on few images. No convolution is
            scale-invariant then.
        bias: Whether the last layer has one, as in the published nets. Without it the layer is scale-invariant.

    Raises:
        ValueError: A size below one, an unknown pooling, a net without global average pooling to add to, or weights
            that cannot be read or do not fit.

    Examples:
        >>> import torch
        >>> net = embedder(channels=3, dim=5, body=partial(by_name, name="resnet18"))
        >>> net(torch.rand(2, 3, 32, 32)).norm(dim=1).allclose(torch.ones(2))
        True
    """
    check_at_least(1, dim=dim)
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}: choose from {', '.join(POOLINGS)}")
    cut = BodyAndHead(body(channels=channels, classes=1))
    if weights is not None:
        load_weights(cut.body, pretrained(weights, str(body.keywords.get("name", ""))), weights)
    if pooling == "sum":
        _add_maximum(cut.body)
    head = nn.Linear(cut.head.in_features, dim, bias=bias)
    nn.init.kaiming_normal_(head.weight, mode="fan_out")
    if bias:
        nn.init.zeros_(head.bias)
    return Embedder(cut.body, head, frozen_norms=frozen_norms)


def _add_maximum(body: nn.Module) -> None:
    """Replace the global average pooling of a net; its blocks may have others of their own, which stay."""
    found = [(name, module) for name, module in body.named_children() if _averages(module)]
    if not found:
        raise ValueError(
            f"{type(body).__name__} has no global average pooling that the maximum could be added to; "
            "choose another net or pooling=own"
        )
    name, module = found[-1]
    flatten = [nn.Flatten()] if isinstance(getattr(module, "flatten", None), nn.Flatten) else []
    body.set_submodule(name, nn.Sequential(SummedPool(), *flatten) if flatten else SummedPool())


def _averages(module: nn.Module) -> bool:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    # timm's own class, which also flattens
    return type(module).__name__ == "SelectAdaptivePool2d" and getattr(module, "pool_type", "") == "avg"

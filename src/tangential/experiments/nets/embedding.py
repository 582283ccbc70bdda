"""Embedding nets: any classifier, cut before its last layer, that maps an image to a point on the unit sphere.

The published metric-learning nets add the maximum over the last maps to their mean, map that to 512 numbers and divide
by their norm. Because of that division the last layer is scale-invariant as a whole if it has no bias.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, normalize
from torch.nn.modules.batchnorm import _BatchNorm

from tangential.experiments.nets.by_name import named
from tangential.experiments.nets.featured import Featured
from tangential.experiments.nets.pretrained import load_weights, pretrained

POOLINGS = ("sum", "own")


class SummedPool(nn.Module):
    """Add the maximum over all places to the mean: from maps `(batch, channels, h, w)` to `(batch, channels, 1, 1)`.

    Example:
        >>> import torch
        >>> SummedPool()(torch.tensor([[[[0.0, 4.0]]]])).item()
        6.0
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Pool."""
        return adaptive_avg_pool2d(maps, 1) + adaptive_max_pool2d(maps, 1)


class Embedder(nn.Module):
    """A body, a linear head, and the division by the norm.

    Args:
        body: From images to features `(batch, features)`.
        head: From features to `(batch, dim)`.
        frozen_norms: Keep every BatchNorm in evaluation mode, and its gain and bias as they are, in training too.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, *, frozen_norms: bool = False) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.frozen_norms = frozen_norms
        for norm in self._frozen():
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Embedder:
        """Go into training or evaluation mode; frozen BatchNorms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen():
            norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Embed images `(batch, channels, height, width)`: points of norm one, `(batch, dim)`."""
        return normalize(self.head(self.body(images)), dim=1)

    def _frozen(self) -> list[nn.Module]:
        # looked for anew, for processes that share batches exchange the BatchNorms of a model
        return [each for each in self.body.modules() if self.frozen_norms and isinstance(each, _BatchNorm)]


class MetricNet(nn.Module):
    """An embedding net and the loss it learns by, whose proxies, if it has any, are weights like all others.

    Args:
        net: From images to embeddings `(batch, dim)`.
        criterion: From embeddings and classes `(batch,)` to the loss.
    """

    def __init__(self, net: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.criterion = criterion

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        return self.net(images)


_RESNET_50 = partial(named, name="resnet50")


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
    """Make an embedding net out of a classifier.

    Args:
        channels: Channels of the images.
        dim: Numbers of an embedding.
        body: Makes the classifier, given `channels` and `classes`; its last linear layer is replaced.
        weights: What the body starts from: a file of a `state_dict`, or torchvision's name of a set; None for random.
        pooling: "sum" adds the maximum to the net's global average pooling; "own" leaves the net as it is.
        frozen_norms: Whether BatchNorms stay as they are in training, as is usual in fine-tuning on few images. No
            convolution is scale-invariant then.
        bias: Whether the last layer has one, as the published nets do. Without it the layer is scale-invariant.

    Raises:
        ValueError: A size below one, an unknown pooling, a net without global average pooling to add to, or weights
            that cannot be read or do not fit.

    Example:
        >>> import torch
        >>> net = embedder(channels=3, dim=5, body=partial(named, name="resnet18"))
        >>> net(torch.rand(2, 3, 32, 32)).norm(dim=1).allclose(torch.ones(2))
        True
    """
    if dim < 1:
        raise ValueError(f"dim={dim}: an embedding needs at least one number")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}: choose from {', '.join(POOLINGS)}")
    cut = Featured(body(channels=channels, classes=1))
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
    # timm's own class, which does its flattening too
    return type(module).__name__ == "SelectAdaptivePool2d" and getattr(module, "pool_type", "") == "avg"

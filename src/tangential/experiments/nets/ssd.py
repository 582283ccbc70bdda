"""SSD (arXiv 1512.02325) on VGG16 with BatchNorm, or on a small ResNet: torchvision's SSD over our feature maps.

Images `(batch, 3, size, size)` become a pyramid of feature maps, from the backbone's finest one that is used to maps of
a single cell. torchvision's `SSD` places default boxes at every cell of every map, and its heads predict class logits
and four offsets for each. Which boxes these are is an `SSDConfig`: it must have as many `ratios` as the pyramid has
maps, and one more `scales`, for the square box between two scales.

The paper of AdamP trains it on VGG16 with BatchNorm; whether at 300 or 512 pixels is not known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from tangential.experiments.nets.backbones import Backbone, resnet_backbone, vgg16_backbone
from tangential.experiments.settings.bounds import check_at_least


@dataclass(frozen=True)
class SSDConfig:
    """Default boxes of an SSD, and the extra layers that make its coarser maps.

    Args:
        ratios: Per map, the aspect ratios of its default boxes beside squares; each is used in both orientations.
        scales: Side of the square default boxes of each map, as a share of the image; one more than there are maps.
        steps: Stride of each map, in pixels; None for the image's side over the map's.
        extras: Kernel, stride and padding of the convolutions of the extra layers.
    """

    ratios: list[list[int]]
    scales: list[float]
    steps: list[int] | None
    extras: list[tuple[int, int, int]]


CONFIGS = {
    300: SSDConfig(
        ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
        extras=[(3, 2, 1), (3, 2, 1), (3, 1, 0), (3, 1, 0)],
    ),
    512: SSDConfig(
        ratios=[[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06],
        steps=[8, 16, 32, 64, 128, 256, 512],
        extras=[(3, 2, 1), (3, 2, 1), (3, 2, 1), (3, 2, 1), (4, 1, 1)],
    ),
}
"""SSD's own for COCO: sides of 21, 45, ..., 315 of 300 pixels and 20.48, 51.2, ..., 542.72 of 512."""

SMALL_CONFIG = SSDConfig(
    ratios=[[2], [2, 3], [2, 3], [2]],
    scales=[0.07, 0.15, 0.3, 0.5, 0.8],
    steps=None,
    extras=[(3, 2, 1)],
)
"""For small images of few, large objects: maps at strides 8, 16, 32 and 64."""


class FeaturePyramid(nn.Module):
    """Feature maps of an SSD: the last ones of a backbone, and coarser ones made by extra layers.

    Args:
        backbone: From images to maps.
        first: Index of its first map that is used.
        bridge: Applied to its last map; keeps height and width. SSD replaces VGG's fc6 and fc7 by such convolutions.
        bridged: Output channels of the bridge.
        extras: Kernel, stride and padding of each extra layer's second convolution.
        width: Channels of the extra layers are multiples of this.
        normed: Whether a BatchNorm follows each convolution after the backbone.
        rescaled: Initial scale of the L2 normalisation of the first map (ParseNet); None for no normalisation.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        first: int,
        bridge: nn.Module,
        bridged: int,
        extras: Sequence[tuple[int, int, int]],
        width: int,
        normed: bool,
        rescaled: float | None,
    ) -> None:
        super().__init__()
        self.backbone, self.first, self.bridge = backbone, first, bridge
        self.out_channels = [*backbone.channels[first:-1], bridged]
        length = None if rescaled is None else torch.full((self.out_channels[0],), rescaled)
        self.scale_weight = None if length is None else nn.Parameter(length)
        steps = []
        for index, (kernel, stride, padding) in enumerate(extras):
            inputs, outputs = self.out_channels[-1], (8 if index == 0 else 4) * width
            inner = outputs // 2
            steps.append(
                nn.Sequential(
                    *_conv(inputs, inner, 1, normed=normed),
                    *_conv(inner, outputs, kernel, stride=stride, padding=padding, normed=normed),
                )
            )
            self.out_channels.append(outputs)
        self.extras = nn.ModuleList(steps)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps of images `(batch, 3, height, width)`, the finest first."""
        maps = self.backbone(images)[self.first :]
        if self.scale_weight is not None:
            maps[0] = self.scale_weight[:, None, None] * normalize(maps[0])
        maps[-1] = self.bridge(maps[-1])
        for step in self.extras:
            maps.append(step(maps[-1]))
        return OrderedDict((str(index), each) for index, each in enumerate(maps))


class CheckedSSD(SSD):
    """torchvision's SSD, with one detection of NaN for an image at which an output of the heads is not finite.

    torchvision keeps the boxes whose score is above a threshold, so that those of NaN would disappear without a trace.
    """

    def postprocess_detections(
        self, head_outputs: dict[str, Tensor], image_anchors: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detections of each image; `head_outputs` are `(batch, boxes, ...)`."""
        found = super().postprocess_detections(head_outputs, image_anchors, image_shapes)
        finite = torch.stack([each.flatten(1).isfinite().all(dim=1) for each in head_outputs.values()]).all(dim=0)
        return [each if right else _not_finite(each) for each, right in zip(found, finite.tolist(), strict=True)]


def ssd_vgg16(*, classes: int, size: int, width: int = 64, normed: bool = False, weights: str | None = None) -> SSD:
    """SSD300 or SSD512 on VGG16 with BatchNorm.

    Args:
        classes: How many classes there are, without the background.
        size: 300 or 512: side of the images, in pixels.
        width: Channels of the first convolution, of which all others' are multiples; 64 makes a VGG16.
        normed: Whether a BatchNorm also follows the convolutions after VGG16; SSD has none there.
        weights: ImageNet weights of VGG16-BN to start from: a file, or `IMAGENET1K_V1`; None for random ones.

    Returns:
        torchvision's SSD: in training it gives the losses `bbox_regression` and `classification`, in evaluation the
        boxes, labels from 1 and scores of each image.

    Raises:
        ValueError: Another size, a count below one, or weights that cannot be read.

    Examples:
        >>> net = ssd_vgg16(classes=3, size=300, width=2)
        >>> [tuple(map.shape[1:]) for map in net.backbone(torch.zeros(2, 3, 300, 300)).values()]
        [(16, 38, 38), (32, 19, 19), (16, 10, 10), (8, 5, 5), (8, 3, 3), (8, 1, 1)]
    """
    if size not in CONFIGS:
        raise ValueError(f"size={size}: an SSD on VGG16 takes {' or '.join(map(str, CONFIGS))} pixels")
    bridge = nn.Sequential(
        nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
        *_conv(8 * width, 16 * width, 3, padding=6, dilation=6, normed=normed),
        *_conv(16 * width, 16 * width, 1, normed=normed),
    )
    backbone = vgg16_backbone(width=width, weights=weights)
    config = CONFIGS[size]
    features = FeaturePyramid(
        backbone,
        first=0,
        bridge=bridge,
        bridged=16 * width,
        extras=config.extras,
        width=width,
        normed=normed,
        rescaled=20.0,
    )
    return _ssd(features, config, classes=classes, size=size)


def ssd_resnet(*, classes: int, size: int, width: int = 64, blocks: int = 2, weights: str | None = None) -> SSD:
    """SSD on ResNet-18 or a smaller ResNet, a BatchNorm after every convolution but the heads'.

    Args:
        classes: How many classes there are, without the background.
        size: Side of the images, in pixels; at least 64.
        width: Channels of the ResNet's first stage, of which all others' are multiples.
        blocks: Blocks in each stage of the ResNet.
        weights: ImageNet weights of ResNet-18 to start from: a file, or `IMAGENET1K_V1`; None for random ones.

    Returns:
        torchvision's SSD.

    Raises:
        ValueError: A size below 64, a count below one, or weights that cannot be read.

    Examples:
        >>> net = ssd_resnet(classes=3, size=64, width=4, blocks=1)
        >>> [tuple(map.shape[1:]) for map in net.backbone(torch.zeros(2, 3, 64, 64)).values()]
        [(8, 8, 8), (16, 4, 4), (32, 2, 2), (32, 1, 1)]
    """
    if size < 64:
        raise ValueError(f"size={size}: an SSD on a ResNet needs at least 64 pixels")
    backbone = resnet_backbone(width=width, blocks=blocks, weights=weights)
    features = FeaturePyramid(
        backbone,
        first=2,
        bridge=nn.Identity(),
        bridged=8 * width,
        extras=SMALL_CONFIG.extras,
        width=width,
        normed=True,
        rescaled=None,
    )
    return _ssd(features, SMALL_CONFIG, classes=classes, size=size)


def _ssd(features: FeaturePyramid, config: SSDConfig, *, classes: int, size: int) -> SSD:
    check_at_least(1, classes=classes)
    boxes = DefaultBoxGenerator(config.ratios, scales=config.scales, steps=config.steps)
    return CheckedSSD(features, boxes, (size, size), classes + 1)


def _not_finite(found: dict[str, Tensor]) -> dict[str, Tensor]:
    boxes, labels, scores = (found[name] for name in ("boxes", "labels", "scores"))
    return {
        "boxes": boxes.new_full((1, 4), torch.nan),
        "labels": labels.new_ones(1),
        "scores": scores.new_full((1,), torch.nan),
    }


def _conv(
    inputs: int, outputs: int, kernel: int, *, normed: bool, stride: int = 1, padding: int = 0, dilation: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=not normed)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return [conv, *([nn.BatchNorm2d(outputs)] if normed else []), nn.ReLU(inplace=True)]

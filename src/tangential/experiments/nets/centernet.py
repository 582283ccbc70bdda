"""CenterNet (arXiv 1904.07850) on a ResNet: three upsampling steps, and heads for heatmap, sizes and offsets.

Images `(batch, 3, height, width)` become a map at stride 32 in the backbone and one at stride 4 in the neck, of which
three heads make the logits of the heatmap `(batch, classes, h, w)`, sizes and offsets `(batch, 2, h, w)`. Training
compares them with the targets, evaluation decodes boxes from them; both are in `centernet_targets`.

The paper of AdamP trains it on ResNet-18; whether with the plain or the deformable neck is not known, but its scores
point to the deformable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from tangential.experiments.nets.backbones import Backbone, resnet_backbone
from tangential.experiments.nets.centernet_targets import decode, losses, make_targets
from tangential.experiments.settings.bounds import check_at_least

Neck = partial[tuple[nn.Module, int]]
"""Makes a neck, given `inputs` and `width`; returns it and the channels of its map."""

STRIDE = 4
MULTIPLE = 32
# CenterNet's own statistics of COCO, here in the order red, green, blue
MEAN, STD = (0.47026115, 0.44719302, 0.40789654), (0.27809835, 0.27408164, 0.28863828)


class CenterNet(nn.Module):
    """Object detector by centres.

    In training it returns the losses `heat`, `size` and `offset`, whose sum is the loss; in evaluation, per image, a
    dict of `boxes` `(n, 4)` in pixels, `labels` `(n,)` from 1 and `scores` `(n,)`, as torchvision's
    detectors do.

    Args:
        backbone: From images to maps, the last at stride 32.
        neck: From that map to one at stride 4.
        channels: Channels of the neck's map.
        classes: How many classes there are, without the background.
        head_width: Channels inside the heads.
        top: Boxes per image.
        flip_test: Whether to average over the image and its mirror image in evaluation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        neck: nn.Module,
        *,
        channels: int,
        classes: int,
        head_width: int = 64,
        top: int = 100,
        flip_test: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.heat = _head(channels, head_width, classes)
        self.size = _head(channels, head_width, 2)
        self.offset = _head(channels, head_width, 2)
        self._init_heads()
        self.classes, self.top, self.flip_test = classes, top, flip_test
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(
        self, images: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation.

        Args:
            images: `(batch, 3, height, width)` from 0 to 1; sides are multiples of 32.
            targets: Per image `boxes` `(n, 4)` and `labels` `(n,)` from 1, for training.

        Raises:
            ValueError: Sides that are no multiples of 32, or no targets in training.
        """
        if any(side % MULTIPLE for side in images.shape[-2:]):
            raise ValueError(f"images of {tuple(images.shape[-2:])} pixels: both sides must be multiples of {MULTIPLE}")
        if not self.training:
            return self._detect(images)
        if targets is None:
            raise ValueError("CenterNet needs targets in training; call model.eval() to detect")
        heat, size, offset = self.maps(images)
        truth = make_targets(
            [each["boxes"] for each in targets],
            [each["labels"] - 1 for each in targets],
            classes=self.classes,
            shape=(heat.shape[-2], heat.shape[-1]),
            stride=STRIDE,
        )
        return losses(heat, size, offset, truth)

    def _init_heads(self) -> None:
        nn.init.constant_(self.heat.get_parameter("2.bias"), -2.19)  # a probability of 0.1 everywhere, as in focal loss
        for head in (self.size, self.offset):
            nn.init.normal_(head.get_parameter("2.weight"), std=0.001)
            nn.init.zeros_(head.get_parameter("2.bias"))

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the heatmap, sizes and offsets, each `(batch, ..., height / 4, width / 4)`."""
        features = self.neck(self.backbone((images - self.mean) / self.std)[-1])
        return self.heat(features), self.size(features), self.offset(features)

    def _detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        heat, size, offset = self.maps(images)
        # The best cell may be finite beside others that are not, and infinite logits have a finite probability.
        finite = torch.cat([each.flatten(1) for each in (heat, size, offset)], dim=1).isfinite().all(dim=1)
        heat = heat.sigmoid().where(finite[:, None, None, None], torch.nan)
        if self.flip_test:  # the mirror image's offsets are left out, as in CenterNet
            mirrored_heat, mirrored_size, _ = self.maps(images.flip(-1))
            heat = (heat + mirrored_heat.sigmoid().flip(-1)) / 2
            size = (size + mirrored_size.flip(-1)) / 2
        found = decode(heat.float(), size.float(), offset.float(), stride=STRIDE, top=self.top)
        return [each | {"labels": each["labels"] + 1} for each in found]


def plain_neck(inputs: int, width: int) -> tuple[nn.Module, int]:
    """Upsample three times by two, each time to `4 * width` channels: CenterNet's `res_18` at a width of 64.

    Returns:
        The neck and the channels of its map.
    """
    widths = [4 * width] * 3
    steps = [_up(before, after) for before, after in zip([inputs, *widths], widths, strict=False)]
    for step in steps:
        nn.init.normal_(step.get_parameter("0.weight"), std=0.001)
    return nn.Sequential(*steps), widths[-1]


def deformable_neck(inputs: int, width: int) -> tuple[nn.Module, int]:
    """Upsample three times by two, each time after a deformable convolution: CenterNet's `resdcn_18` at a width of 64.

    Returns:
        The neck and the channels of its map.
    """
    widths = [4 * width, 2 * width, width]
    steps: list[nn.Module] = []
    for before, after in zip([inputs, *widths], widths, strict=False):
        up = _up(after, after)
        _init_bilinear(up.get_parameter("0.weight"))
        steps.append(nn.Sequential(Deformable(before, after), nn.BatchNorm2d(after), nn.ReLU(inplace=True), *up))
    return nn.Sequential(*steps), widths[-1]


class Deformable(nn.Module):
    """Modulated deformable 3 x 3 convolution (deformable convolution v2): learned offsets and weights of its taps.

    Args:
        inputs: Input channels.
        outputs: Output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.where = nn.Conv2d(inputs, 27, kernel_size=3, padding=1)  # 9 taps: two offsets and a modulation each
        self.look = DeformConv2d(inputs, outputs, kernel_size=3, padding=1)
        nn.init.zeros_(self.where.weight)
        nn.init.zeros_(self.where.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Features `(batch, outputs, height, width)` of features `(batch, inputs, height, width)`."""
        where = self.where(features)
        # torchvision's kernel reads outside the map at an offset of NaN, and leaves the tap out at an infinite one. A
        # net that diverged must come out as NaN, not crash or look right.
        finite = where.isfinite()
        where = where.where(finite, 0.0)
        seen = self.look(features, where[:, :18], where[:, 18:].sigmoid())
        return seen.masked_fill(~finite.all(dim=1, keepdim=True), torch.nan)


_DEFORMABLE = partial(deformable_neck)


def centernet(
    *,
    classes: int,
    size: int,
    width: int = 64,
    blocks: int = 2,
    neck: Neck = _DEFORMABLE,
    weights: str | None = None,
    flip_test: bool = False,
) -> CenterNet:
    """CenterNet on ResNet-18, or on a smaller ResNet.

    Args:
        classes: How many classes there are, without the background.
        size: Side of the training images, in pixels: a multiple of 32.
        width: Channels of the ResNet's first stage, of the heads, and what the neck's are multiples of.
        blocks: Blocks in each stage of the ResNet.
        neck: `plain_neck` or `deformable_neck`, without arguments.
        weights: ImageNet weights of ResNet-18 to start from: a file, or `IMAGENET1K_V1`; None for random ones.
        flip_test: Whether to average over an image and its mirror image in evaluation.

    Raises:
        ValueError: A size that is no multiple of 32, a count below one, or weights that cannot be read.

    Examples:
        >>> net = centernet(classes=3, size=64, width=4, blocks=1, neck=partial(plain_neck)).eval()
        >>> [found] = net(torch.zeros(1, 3, 64, 64))
        >>> found["boxes"].shape, found["scores"].shape
        (torch.Size([100, 4]), torch.Size([100]))
    """
    if size < MULTIPLE or size % MULTIPLE:
        raise ValueError(f"size={size}: CenterNet needs a multiple of {MULTIPLE}")
    check_at_least(1, classes=classes)
    backbone = resnet_backbone(width=width, blocks=blocks, weights=weights)
    made, channels = neck(backbone.channels[-1], width)
    return CenterNet(backbone, made, channels=channels, classes=classes, head_width=width, flip_test=flip_test)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _init_bilinear(weight: Tensor) -> None:
    """Initialise a transposed convolution `(channels, channels, 4, 4)` as bilinear interpolation."""
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        weight.zero_()
        weight.diagonal(dim1=0, dim2=1).copy_((ramp[:, None] * ramp)[..., None].expand(4, 4, len(weight)))


def _head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, outputs, kernel_size=1),
    )

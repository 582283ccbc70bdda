"""Backbones of detectors: ResNet and VGG without classifier, with the feature maps of all stages as output.

At their usual width they are torchvision's ResNet-18 and VGG16 with BatchNorm and load their weights; narrow ones are
for small images and a single CPU thread. Every convolution is followed by a BatchNorm, so all are scale-invariant
channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from tangential.experiments.nets.pretrained import load_weights, pretrained
from tangential.experiments.settings.bounds import check_at_least


class Backbone(nn.Module):
    """Stages in sequence; the output of every stage is returned, each coarser than the one before.

    Args:
        stages: The modules, by name. The names are those of the parameters in checkpoints.
        channels: Output channels of each stage.
    """

    def __init__(self, stages: dict[str, nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.channels = tuple(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images `(batch, 3, height, width)`, one per stage."""
        maps = []
        for stage in self.children():
            images = stage(images)
            maps.append(images)
        return maps


def resnet_backbone(*, width: int = 64, blocks: int = 2, weights: str | None = None) -> Backbone:
    """ResNet of basic blocks without its classifier; strides 4, 4, 8, 16 and 32.

    Args:
        width: Channels of the first stage; the last has eight times as many. 64 makes a ResNet-18.
        blocks: Basic blocks per stage; 2 makes a ResNet-18.
        weights: Pretrained weights, see `tangential.experiments.nets.pretrained.pretrained`; None for random weights.

    Raises:
        ValueError: A size below one, or weights that cannot be read or are of another size.

    Examples:
        >>> import torch
        >>> [tuple(map.shape[1:]) for map in resnet_backbone(width=4, blocks=1)(torch.zeros(1, 3, 64, 64))]
        [(4, 16, 16), (4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    """
    check_at_least(1, width=width, blocks=blocks)
    widths = [width, 2 * width, 4 * width, 8 * width]
    stem = nn.Sequential(
        nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    layers = {
        f"layer{index + 1}": _layer(widths[max(index - 1, 0)], outputs, blocks, stride=1 if index == 0 else 2)
        for index, outputs in enumerate(widths)
    }
    net = Backbone({"stem": stem, **layers}, [width, *widths])
    _kaiming(net)
    if weights is not None:
        state = pretrained(weights, "resnet18")
        renamed = {
            name.replace("conv1.", "stem.0.", 1) if name.startswith("conv1.") else name: state[name] for name in state
        }
        renamed |= {name.replace("bn1.", "stem.1.", 1): state[name] for name in state if name.startswith("bn1.")}
        load_weights(net, renamed, weights)
    return net


def vgg16_backbone(*, width: int = 64, weights: str | None = None) -> Backbone:
    """VGG16 with BatchNorm up to conv4_3 (stride 8) and conv5_3 (stride 16), as SSD uses it.

    The third pooling rounds its size up, so that 300 pixels become 38 cells, as in SSD.

    Args:
        width: Channels of the first convolution; the last has eight times as many. 64 makes a VGG16.
        weights: Pretrained weights, see `tangential.experiments.nets.pretrained.pretrained`; None for random weights.

    Raises:
        ValueError: A width below one, or weights that cannot be read or are of another size.

    Examples:
        >>> import torch
        >>> [tuple(map.shape[1:]) for map in vgg16_backbone(width=2)(torch.zeros(1, 3, 60, 60))]
        [(16, 8, 8), (16, 4, 4)]
    """
    check_at_least(1, width=width)
    layers: list[nn.Module] = []
    inputs = 3
    for index, (outputs, depth) in enumerate(
        zip((width, 2 * width, 4 * width, 8 * width, 8 * width), (2, 2, 3, 3, 3), strict=True)
    ):
        if index:
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=index == 3))
        for _ in range(depth):
            layers += [
                nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
    features = nn.Sequential(*layers)
    _kaiming(features)
    if weights is not None:
        state = pretrained(weights, "vgg16_bn")
        load_weights(features, {name.removeprefix("features."): state[name] for name in state}, weights)
    cut = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)][3]
    return Backbone({"conv4": features[:cut], "conv5": features[cut:]}, [8 * width, 8 * width])


def _layer(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def _kaiming(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""The small residual nets of He et al. (2015) for images of about 32 pixels: ResNet-8, -14, -20, ..., of any width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from tangential.experiments.settings.bounds import check_at_least


def resnet(*, channels: int, classes: int, depth: int = 8, width: int = 16) -> nn.Sequential:
    """Stack a convolution, three groups of residual blocks, and a linear head.

    The groups have `width`, `2 * width` and `4 * width` channels; the second and third halve the image. Every
    convolution is followed by a BatchNorm; shortcuts have no weights.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        depth: Layers with weights: 8, 14, 20, 26, ...
        width: Channels of the first group.

    Returns:
        A net from images `(batch, channels, height, width)`, 4 pixels a side or more, to logits `(batch, classes)`.

    Raises:
        ValueError: A depth that is not 6 n + 2, or a size below one.

    Examples:
        >>> sum(weight.numel() for weight in resnet(channels=3, classes=10, depth=20).parameters())
        269722
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth={depth}: must be 8, 14, 20, ..., that is 6 n + 2")
    check_at_least(1, channels=channels, classes=classes, width=width)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        for number in range(blocks):
            layers.append(_Block(inputs, outputs, stride if number == 0 else 1))
            inputs = outputs
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net


class _Block(nn.Module):
    """Residual block of two convolutions; its shortcut subsamples and pads the channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.more:
            half = self.more // 2
            x = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.more - half))
        return torch.relu(residual + x)

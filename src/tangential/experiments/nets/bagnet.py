"""BagNet-18: a ResNet-18 with a receptive field of 5 x 5 pixels, so that it can learn textures and nothing larger."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from tangential.experiments.settings.bounds import check_at_least


def bagnet18(*, channels: int, classes: int) -> nn.Sequential:
    """Texture-biased net of ReBias (Bahng et al., 2020) for 9-class ImageNet.

    Its published code takes an argument `rf=43` that it does not use; the net as built has a receptive field of 5 x 5
    pixels, which is what this one has.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.

    Returns:
        A net from images `(batch, channels, height, width)`, 19 pixels a side or more, to logits `(batch, classes)`.

    Raises:
        ValueError: A size below one.

    Examples:
        >>> import torch
        >>> bagnet18(channels=3, classes=9)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 9])
    """
    check_at_least(1, channels=channels, classes=classes)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, kernel_size=1, bias=False),
        nn.Conv2d(64, 64, kernel_size=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    inputs = 64
    for outputs, stride, kernel in ((64, 2, 3), (128, 2, 1), (256, 2, 1), (512, 1, 1)):
        layers += [_Block(inputs, outputs, stride, kernel), _Block(outputs, outputs, 1, 1)]
        inputs = outputs
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class _Block(nn.Module):
    """Residual block of two unpadded convolutions, the second 1 x 1, with a cropped shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        height, width = residual.shape[-2:]
        return relu(residual + self.shortcut(x)[..., :height, :width])

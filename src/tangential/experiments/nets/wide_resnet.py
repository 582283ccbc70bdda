"""Wide residual nets (Zagoruyko and Komodakis, 2016) of any depth and width, with either kind of shortcut."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, relu

from tangential.experiments.settings.bounds import check_at_least

SHORTCUTS = ("conv", "pool")


def wide_resnet(
    *, channels: int, classes: int, depth: int = 34, width: int = 10, shortcut: str = "conv"
) -> nn.Sequential:
    """Stack a convolution, three groups of pre-activation blocks of 16, 32 and 64 times `width` channels, and a head.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        depth: Layers with weights on the longest path: 10, 16, 22, 28, 34, ...
        width: How many times wider than a plain ResNet.
        shortcut: Where the shape changes, in place of the identity: `"conv"`, a 1 x 1 convolution of the
            activated input as in the original, or `"pool"`, average pooling of the input and zeros for the new
            channels, as in Madry et al.'s adversarial training, which has no weights.

    Returns:
        A net from images `(batch, channels, height, width)`, 4 pixels a side or more, to logits `(batch, classes)`.

    Raises:
        ValueError: A depth that is not 6 n + 4, a size below one or an unknown shortcut.

    Examples:
        >>> sum(weight.numel() for weight in wide_resnet(channels=3, classes=10, depth=16, width=1).parameters())
        175066
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth={depth}: must be 10, 16, 22, ..., that is 6 n + 4")
    check_at_least(1, channels=channels, classes=classes, width=width)
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut={shortcut!r}: must be one of {', '.join(SHORTCUTS)}")
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
    inputs = 16
    for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for number in range(blocks):
            layers.append(_Block(inputs, outputs, stride if number == 0 else 1, shortcut))
            inputs = outputs
    head = [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    net = nn.Sequential(*layers, *head)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class _Block(nn.Module):
    """Pre-activation residual block: BatchNorm, ReLU and convolution, twice."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.stride, self.more = stride, outputs - inputs
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes and shortcut == "conv" else None

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.bn1(x))
        residual = self.conv2(relu(self.bn2(self.conv1(active))))
        return residual + (self._pooled(x) if self.shortcut is None else self.shortcut(active))

    def _pooled(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = avg_pool2d(x, self.stride)
        half = self.more // 2
        return pad(x, (0, 0, 0, 0, half, self.more - half)) if self.more else x

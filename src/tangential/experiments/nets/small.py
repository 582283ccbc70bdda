"""Small convolutional nets in which almost every weight is scale-invariant."""

from __future__ import annotations

from torch import nn

from tangential.experiments.settings.bounds import check_at_least


def conv_net(*, channels: int, classes: int, width: int = 8) -> nn.Sequential:
    """Stack three convolutions, each without bias and followed by a BatchNorm, and a linear head.

    The BatchNorms make the convolutions scale-invariant channel by channel; the head is not.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        width: Channels of the first convolution; the next have two and four times as many.

    Returns:
        A net from images `(batch, channels, height, width)`, 2 pixels a side or more, to logits `(batch, classes)`.

    Raises:
        ValueError: A size below one.

    Examples:
        >>> import torch
        >>> conv_net(channels=1, classes=3)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """
    check_at_least(1, channels=channels, classes=classes, width=width)
    return nn.Sequential(
        _conv(channels, width),
        _conv(width, 2 * width),
        nn.MaxPool2d(2),
        _conv(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def conv_stack(*, channels: int, classes: int, width: int = 32, depth: int = 4) -> nn.Sequential:
    """Stack blocks of a convolution, BatchNorm, ReLU and pooling, all of one width, and a linear head.

    With 64 channels and four blocks it is the net of the one-shot papers on Omniglot (Vinyals et al., 2016).

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        width: Channels of every block.
        depth: Blocks; each but the last halves the image.

    Returns:
        A net from images `(batch, channels, height, width)`, `2 ** (depth - 1)` pixels a side or more, to logits
        `(batch, classes)`.

    Raises:
        ValueError: A size below one.

    Examples:
        >>> import torch
        >>> conv_stack(channels=1, classes=3)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 3])
    """
    check_at_least(1, channels=channels, classes=classes, width=width, depth=depth)
    layers: list[nn.Module] = [_conv(channels, width)]
    for _ in range(depth - 1):
        layers += [nn.MaxPool2d(2), _conv(width, width)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )

"""The plain convolutional net of Biased-MNIST (Bahng et al., 2020)."""

from __future__ import annotations

from torch import nn

from tangential.experiments.settings.bounds import check_at_least


def simple_conv_net(*, channels: int, classes: int, kernel: int = 7, width: int = 16) -> nn.Sequential:
    """Stack four convolutions with bias, BatchNorm and ReLU, without stride, and a linear head on their averages.

    With `kernel=1` its receptive field is one pixel: colours, but no shapes.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        kernel: Height and width of every convolution, odd.
        width: Channels of the first; the others have two, four and eight times as many.

    Returns:
        A net from images `(batch, channels, height, width)` to logits `(batch, classes)`.

    Raises:
        ValueError: An even kernel, or a size below one.

    Examples:
        >>> import torch
        >>> simple_conv_net(channels=3, classes=10, kernel=1)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 10])
    """
    check_at_least(1, channels=channels, classes=classes, width=width)
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: must be odd and at least 1")
    layers: list[nn.Module] = []
    inputs = channels
    for outputs in (width, 2 * width, 4 * width, 8 * width):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

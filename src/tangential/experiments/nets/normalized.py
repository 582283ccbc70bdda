"""A net that normalises its images itself, so that data, attacks and pictures all stay within 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """Take a mean from each channel of the images and divide by a standard deviation before the net sees them.

    Args:
        net: The net, from images `(batch, channels, height, width)`.
        mean: One number per channel.
        std: One number per channel.

    Raises:
        ValueError: A standard deviation that is not positive, or two lists of different lengths.

    Example:
        >>> Normalized(nn.Identity(), (0.5,), (0.25,))(torch.ones(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean={mean}, std={std}: must be as many, and std positive")
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise the images and pass them on."""
        return self.net((images - self.mean) / self.std)


def normalized(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Wrap a net, or leave it as it is where there is nothing to normalise with."""
    return Normalized(net, mean, std) if mean or std else net

"""Normalisation of images inside the net, so that data sets, attacks and viewers all have images from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """Subtract a mean from each channel of the images and divide by a standard deviation, then apply the net.

    Args:
        net: The net, from images `(batch, channels, height, width)`.
        mean: One number per channel.
        std: One number per channel.

    Raises:
        ValueError: A standard deviation that is not positive, or two lists of different lengths.

    Examples:
        >>> Normalized(nn.Identity(), (0.5,), (0.25,))(torch.ones(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean={mean}, std={std}: must have the same length, and std positive")
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Apply the net to the normalised images."""
        return self.net((images - self.mean) / self.std)


def normalized(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """A net that normalises its images, or the net itself if there is neither mean nor deviation."""
    return Normalized(net, mean, std) if mean or std else net

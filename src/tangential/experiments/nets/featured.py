"""Nets cut before their linear head, so that a loss can see the features as well as the logits."""

from __future__ import annotations

from torch import Tensor, nn


class Featured(nn.Module):
    """A net in two parts: its body, up to the features, and its linear head.

    Args:
        net: Any net whose last step is a linear layer. It is taken apart.

    Raises:
        ValueError: It has no linear layer.

    Example:
        >>> import torch
        >>> net = Featured(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> [tuple(each.shape) for each in net(torch.zeros(5, 1, 2, 2))]
        [(5, 2), (5, 3)]
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(f"{type(net).__name__} has no linear layer, so no features before it")
        name, head = linear[-1]
        net.set_submodule(name, nn.Identity())
        self.body = net
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give the logits `(batch, classes)` and the features `(batch, features)`."""
        features = self.body(images)
        return self.head(features), features

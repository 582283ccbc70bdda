"""Two nets that play against each other: one that shall not be biased, and one that cannot help it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tangential.experiments.nets.featured import Featured
from tangential.experiments.nets.normalized import normalized

Answer = tuple[Tensor, Tensor]
"""Logits `(batch, classes)` and features `(batch, features)`."""


class Pair(nn.Module):
    """The net `f` that is wanted and the biased net `g` it is trained against.

    Called with images alone it is `f`, so that it is used like any other net.

    Args:
        f: The net that is wanted; its last step is a linear layer.
        g: The net it shall differ from; likewise.
        mean: What both take from each channel of their images.
        std: What both divide each channel by.

    Raises:
        ValueError: One of them has no linear layer.
    """

    def __init__(self, f: nn.Module, g: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.f = Featured(normalized(f, mean, std))
        self.g = Featured(normalized(g, mean, std))

    def forward(self, images: Tensor, learner: str | None = None) -> Tensor | tuple[Answer, Answer]:
        """Answer images.

        Args:
            images: `(batch, channels, height, width)`, from 0 to 1.
            learner: `"f"` or `"g"`: both answer, and gradients flow through this one only. None: `f` alone answers.

        Returns:
            The logits of `f`; with a learner, the answers of `f` and of `g`.
        """
        if learner is None:
            return self.f(images)[0]
        with torch.set_grad_enabled(torch.is_grad_enabled() and learner == "f"):
            wanted = self.f(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learner == "g"):
            biased = self.g(images)
        return wanted, biased

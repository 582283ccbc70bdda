"""ReBias (Bahng et al., 2020): debiased net f, biased net g.

A batch of images `(batch, channels, height, width)` passes through both nets. Each is cut before its last linear layer,
because the loss of ReBias compares *features* `(batch, features)` by HSIC and classifies by *logits*
`(batch, classes)`. The two nets are trained in turns: in the step of one net the other is a constant, so its features
are computed without a graph, which halves the memory and keeps its gradients as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tangential.experiments.nets.normalized import normalized

LogitsAndFeatures = tuple[Tensor, Tensor]
"""`(batch, classes)` and `(batch, features)`."""


class BodyAndHead(nn.Module):
    """A net cut before its linear head: the body computes features, the head their logits.

    Args:
        net: Any net whose last step is a linear layer. It is taken apart.

    Raises:
        ValueError: It has no linear layer.

    Examples:
        >>> import torch
        >>> net = BodyAndHead(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> [tuple(each.shape) for each in net(torch.zeros(5, 1, 2, 2))]
        [(5, 2), (5, 3)]
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(f"{type(net).__name__} has no linear layer, so no features before it")
        name, head = linear[-1]
        # An identity in its place, so that any net can be cut, whatever its forward does before the head.
        net.set_submodule(name, nn.Identity())
        self.body = net
        self.head = head

    def forward(self, images: Tensor) -> LogitsAndFeatures:
        """Logits `(batch, classes)` and features `(batch, features)` of images."""
        features = self.body(images)
        return self.head(features), features


class ReBias(nn.Module):
    """The debiased net `f` and the biased net `g` that it is trained against.

    Called with images alone it is `f`, so that it is evaluated and analysed like any other classifier.

    Args:
        f: The net that is to be debiased; its last step is a linear layer.
        g: The biased net; likewise.
        mean: Of each channel of the images; both nets subtract it.
        std: Standard deviation of each channel; both nets divide by it.

    Raises:
        ValueError: One of them has no linear layer.
    """

    def __init__(self, f: nn.Module, g: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.f = BodyAndHead(normalized(f, mean, std))
        self.g = BodyAndHead(normalized(g, mean, std))

    def forward(
        self, images: Tensor, learner: str | None = None
    ) -> Tensor | tuple[LogitsAndFeatures, LogitsAndFeatures]:
        """Logits of `f`, or logits and features of both nets.

        Args:
            images: `(batch, channels, height, width)`, from 0 to 1.
            learner: `"f"` or `"g"`: both nets are evaluated, and gradients flow through this one only. None: `f` alone.

        Returns:
            The logits of `f`; with a learner, logits and features of `f` and of `g`.
        """
        if learner is None:
            return self.f(images)[0]
        with torch.set_grad_enabled(torch.is_grad_enabled() and learner == "f"):
            debiased = self.f(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learner == "g"):
            biased = self.g(images)
        return debiased, biased

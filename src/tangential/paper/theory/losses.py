"""Scale-invariant losses in float64, with a fresh batch at every step.

The checks need invariance to rounding error, so BatchNorm adds next to nothing to the variance (`BATCH_NORM_EPS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-30
"""Far below the rounding error of a variance; torch refuses zero."""


@dataclass(frozen=True)
class Loss:
    """A scale-invariant loss and its weights; calling it with a step number draws that step's batch.

    Args:
        name: Its name in tables.
        weights: The scale-invariant weights, each row of dimension 0 by itself.
        others: The rest of the model; it is trained too, by plain gradient descent.
        at: Step number to loss.
    """

    name: str
    weights: tuple[Tensor, ...]
    others: tuple[Tensor, ...]
    at: Callable[[int], Tensor]

    def __call__(self, step: int) -> Tensor:
        """The loss of this step's batch."""
        return self.at(step)


def linear_model(classes: int = 5, features: int = 12, batch: int = 16) -> Loss:
    """Classification with a linear model whose rows are normalised, as in retrieval with proxies.

    Args:
        classes: Rows of the weight.
        features: Elements of a row.
        batch: Samples per step; their labels are random.

    Returns:
        The loss; the same one every time.

    Examples:
        >>> loss = linear_model()
        >>> before = loss(0).item()
        >>> with torch.no_grad():
        ...     _ = loss.weights[0].mul_(1000)
        >>> abs(loss(0).item() - before) < 1e-14
        True
    """
    weight = _normal((classes, features), seed=1).requires_grad_()

    def at(step: int) -> Tensor:
        x, labels = _normal((batch, features), seed=100 + step), _labels(batch, classes, seed=100 + step)
        return F.cross_entropy(4 * F.normalize(x) @ F.normalize(weight, eps=0.0).T, labels)

    return Loss("normalised linear model", (weight,), (), at)


def conv_net(channels: int = 2, classes: int = 3, width: int = 4, batch: int = 8) -> Loss:
    """Classification with two convolutions, each followed by BatchNorm and ReLU, and a linear head.

    Args:
        channels: Channels of the 6 x 6 images.
        classes: Outputs.
        width: Channels of the first convolution; the second has one and a half times as many.
        batch: Images per step; they and their labels are random.

    Returns:
        The loss; the same one every time.

    Examples:
        >>> [tuple(w.shape) for w in conv_net().weights]
        [(4, 2, 3, 3), (6, 4, 3, 3)]
    """
    wide = width * 3 // 2
    net = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width, eps=BATCH_NORM_EPS),
        nn.ReLU(),
        nn.Conv2d(width, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide, eps=BATCH_NORM_EPS),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, classes, bias=False),
    ).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            if parameter.ndim > 1:  # BatchNorm's gains and shifts stay at 1 and 0
                parameter.copy_(0.3 * _normal(tuple(parameter.shape), seed=i))

    def at(step: int) -> Tensor:
        images = _normal((batch, channels, 6, 6), seed=200 + step)
        return F.cross_entropy(net(images), _labels(batch, classes, seed=200 + step))

    weights = tuple(m.weight for m in net if isinstance(m, nn.Conv2d))
    others = tuple(p for p in net.parameters() if all(p is not w for w in weights))
    return Loss("BatchNorm conv net", weights, others, at)


def noise(blocks: int = 32, elements: int = 64) -> Loss:
    """Dot product of a direction with pure noise, drawn anew at every step: `sum over rows of n.w / |w|`.

    Its gradient is independent from step to step, in every direction orthogonal to the weight alike: the random walk
    that the equilibrium of arXiv 2305.17212 is derived for.

    Args:
        blocks: Rows of the weight.
        elements: Elements of a row.

    Returns:
        The loss; the same one every time.

    Examples:
        >>> noise().weights[0].shape
        torch.Size([32, 64])
    """
    weight = F.normalize(_normal((blocks, elements), seed=1)).requires_grad_()
    return Loss(
        "noise",
        (weight,),
        (),
        lambda step: (_normal((blocks, elements), seed=300 + step) * F.normalize(weight, eps=0.0)).sum(),
    )


def _normal(shape: tuple[int, ...], *, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _labels(count: int, classes: int, *, seed: int) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))

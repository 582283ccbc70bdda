"""How long weights are, and how far one step turns them.

A loss that does not feel a weight's length sees only its direction `w / |w|`. The distance one update moves that
direction is the effective step size (section 2 of the paper). At one learning rate, it shrinks as the norm grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def matrices(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Pick the weights with more than one dimension: kernels and matrices, not biases and gains.

    Args:
        parameters: Tensors of any shape.

    Returns:
        Those with `ndim > 1`, in the same order, detached (they share memory with the parameters).

    Example:
        >>> [tuple(w.shape) for w in matrices(torch.nn.Linear(3, 2).parameters())]
        [(2, 3)]
    """
    return [parameter.detach() for parameter in parameters if parameter.ndim > 1]


def directions(weights: Sequence[Tensor]) -> list[Tensor]:
    """Scale each weight to length one; a zero weight has no direction and stays zero.

    Args:
        weights: Tensors of any shape; each is one vector, whatever its shape.

    Returns:
        New tensors `w / |w|`, of the same shapes.

    Example:
        >>> directions([torch.tensor([[3.0, 4.0]])])
        [tensor([[0.6000, 0.8000]])]
    """
    return [w / w.norm().clamp_min(torch.finfo(w.dtype).tiny) for w in weights]


def mean_norm(weights: Sequence[Tensor]) -> Tensor:
    """Average the lengths `|w|`: the "weight norm" of the paper's training curves.

    Args:
        weights: At least one tensor, of any shape.

    Returns:
        A tensor without dimensions; nothing is read back to the host.

    Raises:
        ValueError: No weight.

    Example:
        >>> mean_norm([torch.tensor([[3.0, 4.0]]), torch.ones(1, 1)])
        tensor(3.)
    """
    if not weights:
        raise ValueError("mean_norm: no weight; pass at least one tensor with more than one dimension")
    return torch.stack([w.norm() for w in weights]).mean()


def effective_step(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Average how far directions moved: `|w'/|w'| - w/|w||`, in units of the sphere's radius (0 to 2).

    Args:
        before: What `directions` gave before the step.
        after: What it gave after it, the same shapes in the same order.

    Returns:
        A tensor without dimensions; nothing is read back to the host.

    Raises:
        ValueError: No weight, or not as many before as after.

    Example:
        >>> effective_step(directions([torch.tensor([[2.0, 0.0]])]), directions([torch.tensor([[0.0, 5.0]])]))
        tensor(1.4142)
    """
    if not before or len(before) != len(after):
        raise ValueError(f"effective_step: {len(before)} directions before the step, {len(after)} after; need as many")
    return torch.stack([(new - old).norm() for old, new in zip(before, after, strict=True)]).mean()

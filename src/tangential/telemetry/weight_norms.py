"""Weight norm and effective step of whole weights: the two curves of the paper's figures.

A loss that does not depend on a weight's length sees only its direction `w / |w|`. The distance one update moves that
direction is the effective step size (section 2 of the paper). At one learning rate, it shrinks as the norm grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def matrices(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Weights with more than one dimension: kernels and matrices, not biases and gains.

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
    """Weights scaled to length one; a zero weight has no direction and stays zero.

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
    """Mean of the lengths `|w|`: the "weight norm" of the paper's training curves.

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
    """Mean distance that directions moved: `|w'/|w'| - w/|w||`, in units of the sphere's radius (0 to 2).

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


class Movement:
    """Effective steps of whole weights, measured over every step from one copy of them.

    The copy is made before a step and turned into the difference of the directions after it, in place: the length of
    `w |w'|/|w| - w'` is `|w'|` times that of `w/|w| - w'/|w'|`. Nothing is read back to the host.

    Example:
        >>> weights = [torch.tensor([[2.0, 0.0]])]
        >>> movement = Movement()
        >>> movement.before(weights)
        >>> _ = weights[0].copy_(torch.tensor([[0.0, 5.0]]))
        >>> movement.after(weights)
        >>> movement.take()
        tensor(1.4142)
    """

    def __init__(self) -> None:
        self._copies: list[Tensor] = []
        self._total: Tensor | None = None

    @torch.no_grad()
    def before(self, weights: Sequence[Tensor]) -> None:
        """Copy the weights that a step is about to change; the memory of the last copy is used again."""
        old, self._copies = self._copies, []
        for i, w in enumerate(weights):
            w = w.detach()
            dtype = torch.promote_types(w.dtype, torch.float32)
            fits = i < len(old) and (old[i].shape, old[i].dtype, old[i].device) == (w.shape, dtype, w.device)
            self._copies.append(old[i] if fits else torch.empty_like(w, dtype=dtype))
            self._copies[-1].copy_(w)

    @torch.no_grad()
    def after(self, weights: Sequence[Tensor]) -> None:
        """Add the effective steps of the same weights, once the step has been taken."""
        for copy, w in zip(self._copies, weights, strict=True):
            new = w.detach().to(copy.dtype)
            length, old_length = torch.linalg.vector_norm(new), torch.linalg.vector_norm(copy)
            tiny = torch.finfo(length.dtype).tiny
            copy.mul_(length / old_length.clamp_min(tiny)).sub_(new)
            step = torch.linalg.vector_norm(copy) / length.clamp_min(tiny)
            # as in `directions`, a weight of length zero has the direction zero: one unit from any other
            step = torch.where(length > 0, step, (old_length > 0).to(step.dtype))
            self._total = step if self._total is None else self._total.to(step.device) + step

    def take(self) -> Tensor | None:
        """The sum over weights and over the steps since the last call, 0-d; None if there was no step.

        Dividing by the number of weights, after each step, gives what `effective_step` gives.
        """
        total, self._total = self._total, None
        return total

"""Weight norm and effective step of whole weights: the two curves of the paper's figures.

A loss that does not depend on a weight's length depends on its direction `w / |w|` alone. The distance one update moves
that direction is the effective step size (section 2 of the paper). At one learning rate, it shrinks as the norm grows.
"""

# pyright: reportPrivateImportUsage=false

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

    Examples:
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

    Examples:
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

    Examples:
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

    Examples:
        >>> effective_step(directions([torch.tensor([[2.0, 0.0]])]), directions([torch.tensor([[0.0, 5.0]])]))
        tensor(1.4142)
    """
    if not before or len(before) != len(after):
        raise ValueError(f"effective_step: {len(before)} directions before the step, {len(after)} after; need as many")
    return torch.stack([(new - old).norm() for old, new in zip(before, after, strict=True)]).mean()


class Movement:
    """Effective steps of whole weights, measured over every step from one copy of them.

    The copy holds the directions `w/|w|` before a step. After it, the new directions are subtracted in place, the
    lengths of what is left are the effective steps, and the copy is filled with the new directions. So a caller whose
    weights change in steps alone calls `before` once. Nothing is read back to the host.

    Examples:
        >>> weights = [torch.tensor([[2.0, 0.0]])]
        >>> movement = Movement()
        >>> movement.before(weights)
        >>> _ = weights[0].copy_(torch.tensor([[0.0, 5.0]]))
        >>> movement.after(weights)
        tensor(1.4142)
    """

    def __init__(self) -> None:
        self._directions: list[Tensor] = []

    @torch.no_grad()
    def before(self, weights: list[Tensor]) -> None:
        """Copy the directions of weights that steps are about to change; the memory of the last copy is used again."""
        old, self._directions = self._directions, []
        for i, w in enumerate(weights):
            dtype = torch.promote_types(w.dtype, torch.float32)
            fits = i < len(old) and (old[i].shape, old[i].dtype, old[i].device) == (w.shape, dtype, w.device)
            self._directions.append(old[i] if fits else torch.empty_like(w.detach(), dtype=dtype))
        if weights:
            self._fill(weights, _inverse_norms(weights))

    @torch.no_grad()
    def after(self, weights: list[Tensor]) -> Tensor:
        """Effective steps of the same weights, once the step has been taken: their sum, 0-d.

        Divided by the number of weights, this is the `effective_step` of the step.
        """
        if not weights:
            return torch.zeros(())
        inverse = _inverse_norms(weights)
        torch._foreach_addcmul_(self._directions, weights, inverse, value=-1)  # pyright: ignore[reportPrivateImportUsage]
        steps = torch._foreach_norm(self._directions)  # pyright: ignore[reportPrivateImportUsage]
        self._fill(weights, inverse)
        return torch.stack([each.to(steps[0].device) for each in steps]).sum()

    def _fill(self, weights: list[Tensor], inverse: list[Tensor]) -> None:
        torch._foreach_copy_(self._directions, weights)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(self._directions, inverse)  # pyright: ignore[reportPrivateImportUsage]


def _inverse_norms(weights: list[Tensor]) -> list[Tensor]:
    """`1/|w|` of each, 0-d, at least in float32; a weight of length zero keeps the direction zero."""
    wide = [torch.promote_types(w.dtype, torch.float32) for w in weights]
    if all(w.dtype == dtype for w, dtype in zip(weights, wide, strict=True)):
        norms = torch._foreach_norm(weights)  # pyright: ignore[reportPrivateImportUsage]
    else:
        norms = [torch.linalg.vector_norm(w, dtype=dtype) for w, dtype in zip(weights, wide, strict=True)]
    return list(torch._foreach_reciprocal(torch._foreach_clamp_min(norms, torch.finfo(torch.float32).tiny)))  # pyright: ignore[reportPrivateImportUsage]

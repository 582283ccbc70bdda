"""What to say when a number stops being finite: which step, which batch, and where it is seen first."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def all_finite(loss: Tensor, gradients: Iterable[Tensor]) -> bool:
    """Say whether a loss and its gradients are finite, with one value read back."""
    total = torch.nn.utils.get_total_norm([g.coalesce().values() if g.is_sparse else g for g in gradients])
    # a norm overflows where its elements do not yet; who is told so looks at the elements
    return bool((loss + 0 * total.to(loss.device, loss.dtype)).isfinite())


def first_affected(model: nn.Module) -> str:
    """Name the first weights, in the order of the model, that are not finite; if all are, the first such gradients.

    Returns:
        A phrase, empty if everything is finite.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> net.weight.grad = torch.tensor([[1.0, float("inf")]])
        >>> first_affected(net)
        'the first gradients that are not finite: weight'
    """
    named = dict(model.named_parameters())
    weights = [name for name, p in named.items() if not bool(p.detach().isfinite().all())]
    grads = [name for name, p in named.items() if p.grad is not None and not _finite(p.grad)]
    for word, names in (("weights", weights), ("gradients", grads)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            return f"the first {word} that are not finite: {', '.join(names[:3])}{more}"
    return ""


def _finite(grad: Tensor) -> bool:
    return bool((grad.coalesce().values() if grad.is_sparse else grad).isfinite().all())

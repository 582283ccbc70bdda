"""HSIC, the Hilbert-Schmidt independence criterion: a measure of the dependence of two sets of features.

Features `(n, d)` and `(n, e)` of the same n samples become Gaussian kernel matrices `(n, n)`, which the estimator
compares: it is large where samples that are near in one feature space are near in the other. The cost is O(n^2 d).
"""

from __future__ import annotations

import torch
from torch import Tensor


def hsic(x: Tensor, y: Tensor, *, bandwidth: float | None = 1.0) -> Tensor:
    """Unbiased estimator of HSIC from a batch (Song et al., 2012, eq. 5).

    For n samples with kernel matrices K and L, their diagonals set to zero:

        HSIC = [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n(n-3))

    The published code of ReBias subtracts the diagonal, as a row, from every row instead. For a kernel with ones on its
    diagonal that also gives zeros there, and subtracts one everywhere else, under which the estimator is invariant.

    Args:
        x: Features `(n, d)`, at least four of them.
        y: Features `(n, e)` of the same samples.
        bandwidth: σ of the Gaussian kernels exp(-|x - x'|² / 2σ²); None for the median distance of each batch.

    Returns:
        A scalar; its expectation is zero for independent features, so it may be negative.

    Raises:
        ValueError: Fewer than four samples, or different numbers of them.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
        >>> bool(hsic(x, x) > 0.05)
        True
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"HSIC needs at least 4 samples, as many of both; got {len(x)} and {len(y)}")
    return estimate(gaussian(x, bandwidth), gaussian(y, bandwidth))


def gaussian(x: Tensor, bandwidth: float | None) -> Tensor:
    """Gaussian kernel matrix `(n, n)` of samples `(n, d)`, with ones on the diagonal."""
    # |x|^2 + |y|^2 - 2xy cancels digits where the mean is large; distances do not depend on it, so it goes first.
    x = x - x.detach().mean(dim=0)
    lengths = x.square().sum(dim=1)
    squares = (lengths.unsqueeze(0) + lengths.unsqueeze(1) - 2 * x @ x.T).clamp_min(0)
    if bandwidth is not None:
        return torch.exp(-squares / (2 * bandwidth**2))
    others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    median = squares.detach()[others].median().clamp_min(torch.finfo(x.dtype).tiny)
    return torch.exp(-squares / (2 * median))


def estimate(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741  # the paper's letters
    """The estimator on two kernel matrices `(n, n)`, whose diagonals are ignored; see `hsic`."""
    n = len(k)
    k, l = (kernel - torch.diag(kernel.diagonal()) for kernel in (k, l))  # noqa: E741
    paths = k.sum(dim=0) @ l.sum(dim=1)  # 1'KL1
    total = (k * l.T).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * paths / (n - 2)
    return total / (n * (n - 3))

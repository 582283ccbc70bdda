"""Metrics of values that are not finite: NaN in, NaN out.

Comparisons hide NaN: `argmax` of a row of NaN is a class, `nan >= 0.5` is False, a detector drops boxes whose score is
NaN. Metrics computed from them would be finite, or even perfect. So every metric checks what it compares, and is NaN as
a whole if a single value is not finite; the training loop then stops the run, as it does for a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor


def all_finite(*values: Tensor) -> bool:
    """Whether no element of the tensors is NaN or infinite.

    Example:
        >>> import torch
        >>> all_finite(torch.ones(2), torch.tensor([1.0, torch.inf]))
        False
    """
    return all(bool(each.isfinite().all()) for each in values)


def number_correct(logits: Tensor, classes: Tensor) -> float:
    """Number of samples whose largest logit is that of their class; NaN if a logit is not finite.

    Args:
        logits: `(batch, classes)`.
        classes: `(batch,)`.

    Example:
        >>> import torch
        >>> number_correct(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))
        1.0
        >>> number_correct(torch.tensor([[torch.nan, 1.0]]), torch.tensor([0]))
        nan
    """
    return float((logits.argmax(dim=1) == classes).sum()) if all_finite(logits) else math.nan


def undefined(names: Iterable[str]) -> dict[str, float]:
    """Metrics that are all NaN.

    Example:
        >>> undefined(["ap"])
        {'ap': nan}
    """
    return dict.fromkeys(names, math.nan)

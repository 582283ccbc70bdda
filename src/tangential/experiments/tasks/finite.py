"""Metrics of values that are not finite, or of none at all: NaN in, NaN out; no samples, an error.

Comparisons hide NaN: `argmax` of a row of NaN is a class, `nan >= 0.5` is False, a detector drops boxes whose score is
NaN. Metrics computed from them would be finite, or even perfect. So every metric checks what it compares, and is NaN as
a whole if a single value is not finite; the training loop then stops the run, as it does for a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch import Tensor

B = TypeVar("B")


def all_finite(*values: Tensor) -> bool:
    """Whether no element of the tensors is NaN or infinite.

    Examples:
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

    Examples:
        >>> import torch
        >>> number_correct(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))
        1.0
        >>> number_correct(torch.tensor([[torch.nan, 1.0]]), torch.tensor([0]))
        nan
    """
    return float((logits.argmax(dim=1) == classes).sum()) if all_finite(logits) else math.nan


def at_least_one(batches: Iterable[B]) -> Iterator[B]:
    """The batches of a test set.

    Raises:
        ValueError: There are none.

    Examples:
        >>> list(at_least_one([1, 2]))
        [1, 2]
    """
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise ValueError("the test set is empty, so there is nothing to score")


def undefined(names: Iterable[str]) -> dict[str, float]:
    """Metrics that are all NaN.

    Examples:
        >>> undefined(["ap"])
        {'ap': nan}
    """
    return dict.fromkeys(names, math.nan)

"""Result of a check: a prediction beside a measurement, and the error that is allowed between the two."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

EXACT = 1e-9
"""The relative error that an identity may have in float64."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One statement, evaluated once.

    Args:
        law: The statement's name, with its place in the paper, or "derived" for what the paper does not state.
        formula: The statement, in text form.
        subject: The loss and the optimizer it was evaluated on.
        predicted: The statement's value, summed or averaged to one number.
        measured: The weights', likewise.
        error: The largest relative error over all steps and blocks, not that of the two numbers above.
        tolerance: The largest error that is allowed.
        apart: The statement is that the two differ: it holds if the error is larger than the tolerance.
        statistical: The statement is about an average over noise; it holds up to sampling error.
        note: Assumptions, and how the check meets them.

    Examples:
        >>> Check(law="1 + 1", formula="2", subject="numbers", predicted=2.0, measured=2.0, error=0.0).verdict
        'holds'
    """

    law: str
    formula: str
    subject: str
    predicted: float
    measured: float
    error: float
    tolerance: float = EXACT
    apart: bool = False
    statistical: bool = False
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the statement was found true; an error that is not a number never is."""
        return self.error > self.tolerance if self.apart else self.error <= self.tolerance

    @property
    def verdict(self) -> str:
        """A few words for a table."""
        if not self.holds:
            return "FAILS"
        if self.apart:
            return "differs, as stated"
        return "holds on average" if self.statistical else "holds"


def largest_error(predicted: Tensor, measured: Tensor) -> float:
    """The largest difference of each column, relative to the largest measured entry of that column.

    Args:
        predicted: `(steps, blocks)`.
        measured: The same shape.

    Returns:
        The error of the worst block at its worst step; infinity where nothing was measured but a prediction made.

    Examples:
        >>> import torch
        >>> largest_error(torch.tensor([[1.0], [2.5]]), torch.tensor([[1.0], [2.0]]))
        0.25
    """
    gap = (predicted - measured).abs().amax(0)
    scale = measured.abs().amax(0)
    relative = (gap / scale).where(gap != 0, 0 * gap)
    return float(relative.max())

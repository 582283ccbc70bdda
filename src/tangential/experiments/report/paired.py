"""Paired differences over seeds: Student's interval, the exact sign-flip test, Holm over a page, and a verdict.

Two optimizers are trained from the same seeds, so a difference is taken seed by seed. A verdict needs two things, since
either alone errs: an interval of the mean that leaves zero out, and a test that assumes no distribution, corrected for
the number of differences on the page.

    Difference.of   values by seed -> mean, deviation, interval, p
    verdicts        the differences of a page -> a verdict each

The functions of arrays take any number of samples at once, the last axis being the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from tangential.experiments.report.spread import Spread

LEVEL = 0.05
"""Risk of each page of calling any difference better or worse where there is none, and of calling one equal."""

FEWEST = 6
"""With fewer seeds no outcome of a two-sided sign-flip test is rarer than 5 %: 2 of 2^5 is 6 %."""

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
EQUAL = "equal within the margin"
TOO_FEW = "too few seeds to tell"

_EXACT = 1 << 14
"""Most sign patterns that are counted one by one; of more, so many are drawn, with a fixed seed."""


@dataclass(frozen=True)
class Difference:
    """How far a score is above another one's, seed by seed.

    Args:
        values: Seed -> difference.
        spread: Their mean and standard deviation.
        low: Lower end of Student's 95 % interval of the mean; NaN of a single value.
        high: Upper end.
        p: Two-sided p of the exact sign-flip test.
    """

    values: Mapping[int, float]
    spread: Spread
    low: float
    high: float
    p: float

    @staticmethod
    def of(values: Mapping[int, float]) -> Difference:
        """Difference from its values by seed, at least one.

        Examples:
            >>> found = Difference.of({seed: 0.1 * seed for seed in range(1, 9)})
            >>> f"{found.spread.mean:.2f} [{found.low:.2f}, {found.high:.2f}] p = {found.p:.4f}"
            '0.45 [0.25, 0.65] p = 0.0078'
        """
        sample = np.array(list(values.values()))
        low, high = student_interval(sample)
        return Difference(dict(values), Spread.of(sample.tolist()), float(low), float(high), float(sign_flip_p(sample)))


@dataclass(frozen=True)
class Verdict:
    """What a difference shows.

    Args:
        words: `BETTER`, `WORSE`, `EQUAL`, `UNDECIDED` or `TOO_FEW`.
        p: The p of the sign-flip test, adjusted by Holm's method for all differences of the page.
    """

    words: str
    p: float


def verdicts(
    differences: Sequence[Difference], *, margin: float | None = None, higher_is_better: bool = True
) -> list[Verdict]:
    """Verdicts on all differences of a page.

    Args:
        differences: All that the page compares; with more of them each needs a smaller p.
        margin: A difference up to this, in the unit of the values, does not matter. Two one-sided tests at 5 % (TOST)
            show that a mean lies within it, whether or not it is also shown not to be zero; None for no margin, and
            then nothing is called equal.
        higher_is_better: Whether a positive difference is an improvement.

    Examples:
        >>> ahead, level = ({seed: mean + 0.01 * seed for seed in range(8)} for mean in (0.5, -0.04))
        >>> [each.words for each in verdicts([Difference.of(ahead), Difference.of(level)], margin=0.1)]
        ['better', 'equal within the margin']
    """
    adjusted = holm(np.array([each.p for each in differences]))
    made = zip(differences, adjusted.tolist(), strict=True)
    return [Verdict(_words(each, p, margin, higher_is_better), p) for each, p in made]


def _words(difference: Difference, p: float, margin: float | None, higher_is_better: bool) -> str:
    if len(difference.values) < FEWEST:
        return TOO_FEW
    if margin is not None and within(np.array(list(difference.values.values())), margin):
        return EQUAL
    if not shown(p, difference.low, difference.high):
        return UNDECIDED
    return BETTER if (difference.spread.mean > 0) == higher_is_better else WORSE


def shown(p: Any, low: Any, high: Any) -> Any:
    """Whether a difference is shown: its adjusted p is at most 5 %, and its interval leaves zero out."""
    return (np.asarray(p) <= LEVEL) & ((np.asarray(low) > 0) | (np.asarray(high) < 0))


def student_interval(values: np.ndarray, *, level: float = 1 - LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Student's t-interval of a mean.

    Args:
        values: Samples `(..., n)`.
        level: Share of intervals that hold the mean of what is sampled, if that is normal.

    Returns:
        Lower and upper ends `(...)`; NaN if n is 1.
    """
    from scipy.stats import t  # imported late: it takes two seconds

    n = values.shape[-1]
    mean = values.mean(axis=-1)
    if n < 2:
        return np.full_like(mean, nan), np.full_like(mean, nan)
    half = t.ppf((1 + level) / 2, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def within(values: np.ndarray, margin: float) -> bool:
    """Whether a mean is shown to lie within a margin of zero: two one-sided t-tests at 5 %, as a 90 % interval."""
    low, high = student_interval(values, level=1 - 2 * LEVEL)
    return bool(-margin < low and high < margin)


def sign_flip_p(values: np.ndarray) -> np.ndarray:
    """Two-sided p of the sign-flip test: how often a mean is as far from zero if each value's sign is a coin.

    Exact up to 14 values, and from 16,384 drawn patterns of signs beyond. It assumes that a difference is as likely as
    its opposite, and no distribution.

    Args:
        values: Samples `(..., n)`.

    Returns:
        `(...)`.

    Examples:
        >>> sign_flip_p(np.array([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]])).tolist()
        [0.25, 0.75]
    """
    from scipy.stats import permutation_test

    if values.shape[-1] == 1:
        return np.ones(values.shape[:-1])
    samples = np.atleast_2d(values)
    largest = np.abs(samples).max(axis=-1, keepdims=True)
    # Rounded, so that means which are equal but for the order of their sum count as equal.
    samples = (samples / np.where(largest > 0, largest, 1)).round(12)
    found = permutation_test(
        (samples,),
        lambda each, axis: each.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_EXACT,
        batch=max(1, (1 << 21) // samples.size),
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(found.pvalue).reshape(values.shape[:-1])


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment: with adjusted values at most 5 % the risk of any false claim is at most 5 %.

    The smallest p counts as many times as there are, the next one time less, and none less than the one before
    (S. Holm, Scandinavian Journal of Statistics 6, 1979).

    Args:
        p: The p-values of each page `(..., m)`.

    Returns:
        The adjusted ones, in the same places.

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, axis=-1)
    times = np.arange(p.shape[-1], 0, -1)
    stepped = np.maximum.accumulate(np.minimum(np.take_along_axis(p, order, -1) * times, 1), axis=-1)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, -1)
    return adjusted


def seeds_needed(comparisons: int) -> int:
    """Number of seeds with which a page of so many comparisons can call one better or worse at all.

    Examples:
        >>> seeds_needed(1), seeds_needed(2), seeds_needed(8)
        (6, 7, 9)
    """
    seeds = FEWEST
    while comparisons * 2 / 2**seeds > LEVEL:
        seeds += 1
    return seeds

"""Verdicts in words: one sentence for each pair, with the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tangential.experiments.report.paired import BETTER, EQUAL, TOO_FEW, WORSE


def sentence(pair: Mapping[str, Any], *, margin: float, unit: str) -> str:
    """The verdict on a pair as a sentence.

    Args:
        pair: `reference`, `contender`, `verdict`, `mean`, `low`, `high`, `seeds`, `p_adjusted` and `diverged`.
        margin: Difference that does not matter.
        unit: Of the differences.

    Examples:
        >>> pair = {"reference": "sgd", "contender": "sgdp", "verdict": "better", "mean": 0.5, "low": 0.2, "high": 0.8,
        ...         "seeds": 8, "p_adjusted": 0.0078, "diverged": {}}
        >>> sentence(pair, margin=0.1, unit="points")
        'sgdp is better than sgd: +0.50 points [+0.20, +0.80], n = 8, p = 0.0078'
    """
    ours, theirs = pair["contender"], pair["reference"]
    if pair["diverged"]:
        runs = ", ".join(f"{count} of {name}" for name, count in pair["diverged"].items())
        claim = f"{ours} against {theirs} is undecided, as runs diverged ({runs})"
    else:
        claim = {
            BETTER: f"{ours} is better than {theirs}",
            WORSE: f"{ours} is worse than {theirs}",
            EQUAL: f"{ours} and {theirs} are equal within the margin of {margin:g} {unit}",
            TOO_FEW: f"{ours} against {theirs}: too few seeds to tell",
        }.get(pair["verdict"], f"{ours} against {theirs} is undecided")
    return f"{claim}: {numbers(pair, unit)}" if pair["verdict"] != TOO_FEW else f"{claim} ({numbers(pair, unit)})"


def numbers(pair: Mapping[str, Any], unit: str) -> str:
    """Mean, interval, number of seeds and p of a pair."""
    interval = "" if pair["low"] is None else f" [{signed(pair['low'])}, {signed(pair['high'])}]"
    return f"{signed(pair['mean'])} {unit}{interval}, n = {pair['seeds']}, p = {pair['p_adjusted']:.2g}"


def signed(value: float) -> str:
    """A difference with its sign and two decimals, or three digits where it is smaller.

    Examples:
        >>> signed(0.1234), signed(-0.00123), signed(-0.0)
        ('+0.12', '-0.00123', '+0.00')
    """
    return f"{value + 0.0:+.2f}" if value == 0 or abs(value) >= 0.05 else f"{value:+.3g}"

"""Several comparisons together: a line each, judged as one page, and what they show in common.

Across tasks, scores of different units cannot be averaged, so what counts is who is ahead: the sign test counts tasks,
the probability of improvement counts runs, and the performance profile counts tasks by how much longer an optimizer
takes to the target than the faster of the two (E. Dolan and J. Moré, Mathematical Programming 91, 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tangential.experiments.comparison.measures import probability_of_improvement
from tangential.experiments.comparison.page import RECORD
from tangential.experiments.comparison.sentences import sentence
from tangential.experiments.report.paired import UNDECIDED, Difference, holm, seeds_needed, verdicts
from tangential.experiments.runs.files import read_object

RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
"""Ratios at which the performance profile is given: how many times as long as the faster of two."""

_RESAMPLES = 2000


def read_records(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Records of finished comparisons.

    Raises:
        ValueError: A folder has none, or one of another form.
    """
    records = []
    for folder in folders:
        if not (folder / RECORD).exists():
            raise ValueError(f"{folder / RECORD}: no finished comparison; run `tangential compare` with --out {folder}")
        record = read_object(folder / RECORD)
        if missing := [key for key in ("name", "pairs", "optimizers", "metric", "margin", "unit") if key not in record]:
            raise ValueError(f"{folder / RECORD} is no record of a comparison: it has no {missing[0]!r}")
        records.append(record)
    return records


def several(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What some comparisons show together, as JSON's own types.

    Args:
        records: Of `outcome.outcome`.

    Returns:
        `lines`, a verdict for every pair of every comparison, with Holm's correction over all of them; `common`, for
        every pair of optimizers: counts, sign test, probability of improvement and profile; `notes`.
    """
    pairs = [(record, pair) for record in records for pair in record["pairs"]]
    adjusted = holm(np.array([pair["p"] for _, pair in pairs]))
    lines = [_line(record, pair, p) for (record, pair), p in zip(pairs, adjusted.tolist(), strict=True)]
    kinds = dict.fromkeys((pair["reference"], pair["contender"]) for _, pair in pairs)
    needed = seeds_needed(len(pairs))
    few = [line["name"] for line in lines if line["seeds"] < needed]
    notes = [f"{len(pairs)} comparisons on one page need {needed} seeds each to call one better or worse; fewer have"
             f" {', '.join(dict.fromkeys(few))}."] if few else []  # fmt: skip
    common = [_common(kind, [(record, pair) for record, pair in pairs if _kind(pair) == kind]) for kind in kinds]
    return {"lines": lines, "common": common, "notes": notes}


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of so many wins, if either side is as likely to be ahead; ties are left out.

    Examples:
        >>> sign_test(6, 0), sign_test(2, 2)
        (0.03125, 1.0)
    """
    from scipy.stats import binomtest  # imported late: it takes two seconds

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def profile(times: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    """Performance profile: the share of tasks at which each of two needs at most so many times as long as the faster.

    Args:
        times: Of each task, the reference's and the contender's; infinite for what never gets to the target.

    Returns:
        `reference` and `contender`, a share for each of `RATIOS`.

    Examples:
        >>> profile([(100.0, 120.0), (100.0, inf)])["contender"]
        [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    """
    found = {}
    for place, name in enumerate(("reference", "contender")):
        ratios = [each[place] / min(each) if isfinite(each[place]) else inf for each in times]
        found[name] = [sum(ratio <= most for ratio in ratios) / len(ratios) for most in RATIOS]
    return found


def _line(record: Mapping[str, Any], pair: Mapping[str, Any], p: float) -> dict[str, Any]:
    """A pair with the verdict that it has among all of them."""
    difference = Difference.of({int(seed): value for seed, value in pair["differences"].items()})
    # One p of the whole page stands in for the pair's own: alone, Holm's method leaves it as it is.
    alone = Difference(difference.values, difference.spread, difference.low, difference.high, p)
    higher = record["metric"]["higher_is_better"]
    (verdict,) = verdicts([alone], margin=record["margin"], higher_is_better=higher)
    words = UNDECIDED if pair["diverged"] else verdict.words
    judged = {**pair, "verdict": words, "p_adjusted": p}
    return {
        "name": record["name"],
        "unit": record["unit"],
        **judged,
        "sentence": sentence(judged, margin=record["margin"], unit=record["unit"]),
    }


def _common(kind: tuple[str, str], pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    ahead = [_sign(record) * pair["mean"] for record, pair in pairs]
    wins, losses = sum(each > 0 for each in ahead), sum(each < 0 for each in ahead)
    mean, low, high = improvement([_scores(record, pair) for record, pair in pairs])
    return {
        "reference": kind[0],
        "contender": kind[1],
        "tasks": len(pairs),
        "wins": wins,
        "losses": losses,
        "p": sign_test(wins, losses),
        "improvement": mean,
        "improvement_low": low,
        "improvement_high": high,
        "profile": profile([_times(record, pair) for record, pair in pairs]),
    }


def improvement(scores: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float, float]:
    """Probability of improvement, the mean over tasks, with a 95 % bootstrap interval stratified over runs.

    Args:
        scores: Of each task, the contender's runs and the reference's, higher being better.

    Returns:
        The mean, and the ends of the interval: the runs of each task are drawn anew, the tasks stay.
    """
    draw = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        again = [(draw.choice(ours, len(ours)), draw.choice(theirs, len(theirs))) for ours, theirs in scores]
        drawn.append(fmean(probability_of_improvement(ours, theirs) for ours, theirs in again))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return fmean(probability_of_improvement(*each) for each in scores), float(low), float(high)


def _scores(record: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    by_name = {each["name"]: each for each in record["optimizers"]}
    ours, theirs = (
        [_sign(record) * score for score in by_name[pair[role]]["scores"].values()]
        for role in ("contender", "reference")
    )
    return ours, theirs


def _times(record: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[float, float]:
    by_name = {each["name"]: each["steps_to_target"] for each in record["optimizers"]}
    reference, contender = (inf if by_name[pair[role]] is None else by_name[pair[role]]
                            for role in ("reference", "contender"))  # fmt: skip
    return reference, contender


def _sign(record: Mapping[str, Any]) -> int:
    return 1 if record["metric"]["higher_is_better"] else -1


def _kind(pair: Mapping[str, Any]) -> tuple[str, str]:
    return pair["reference"], pair["contender"]

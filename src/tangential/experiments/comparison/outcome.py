"""Outcome of a comparison: verdicts, and all that decides how to read them, as one record in JSON's own types.

The page, the terminal and `comparison.json` show this record and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite, nan
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tangential.experiments.comparison.contest import Contest, Pair
from tangential.experiments.comparison.heat import described, heat_maps
from tangential.experiments.comparison.items import RETRAINED
from tangential.experiments.comparison.measures import middle, probability_of_improvement, projected_shares, time_to
from tangential.experiments.comparison.protocol import Protocol
from tangential.experiments.comparison.sentences import sentence
from tangential.experiments.comparison.stages import Tuning
from tangential.experiments.comparison.tuning import within
from tangential.experiments.report.paired import UNDECIDED, Difference, seeds_needed, verdicts
from tangential.experiments.report.spread import Spread
from tangential.experiments.runs.folder import RunFolder

Sealed = Mapping[str, Mapping[str, Mapping[str, float | None]]]


def outcome(contest: Contest, protocol: Protocol, tuning: Tuning, sealed: Sealed, out: Path) -> dict[str, Any]:
    """The record of a comparison.

    Args:
        contest: Who is compared.
        protocol: What was registered.
        tuning: What the search found.
        sealed: The scores after the last epoch, as the test sealed them.
        out: The folder of the comparison.

    Returns:
        `sentences`, `pairs`, `optimizers`, `families` with their heat maps and targets, `noise`, `protocol`, `notes`.
    """
    shown = _Shown(contest, protocol, tuning, sealed, out)
    pairs = shown.pairs()
    return {
        "name": contest.recipe.name,
        "about": contest.recipe.about,
        "metric": asdict(contest.recipe.task.headline),
        "unit": shown.unit,
        "margin": protocol.margin,
        "sentences": [each["sentence"] for each in pairs],
        "pairs": pairs,
        "optimizers": [shown.optimizer(name) for name in contest.optimizers],
        "families": [shown.family(family) for family in contest.families],
        "noise": shown.noise(),
        "notes": shown.notes(),
        "protocol": protocol.record(contest),
    }


class _Shown:
    """The parts of the record, in the unit in which scores are shown."""

    def __init__(self, contest: Contest, protocol: Protocol, tuning: Tuning, sealed: Sealed, out: Path) -> None:
        self._contest, self._protocol, self._tuning, self._out = contest, protocol, tuning, out
        headline = contest.recipe.task.headline
        self._key, self._scale = f"test_{headline.name}", headline.scale
        self._sign = 1 if headline.higher_is_better else -1
        self.unit = "points" if headline.scale == 100 else headline.label
        scores = {kind: {name: _by_seed(each, headline.scale) for name, each in of_kind.items()}
                  for kind, of_kind in sealed.items()}  # fmt: skip
        self._retrained, self._noise = scores["retrained"], scores["noise"]

    def pairs(self) -> list[dict[str, Any]]:
        made = [(pair, self._difference(pair)) for pair in self._contest.pairs]
        there = [(pair, each) for pair, each in made if each is not None]
        judged = verdicts([each for _, each in there], margin=self._protocol.margin, higher_is_better=self._sign > 0)
        return [self._pair(pair, each, verdict) for (pair, each), verdict in zip(there, judged, strict=True)]

    def _difference(self, pair: Pair) -> Difference | None:
        ours, theirs = self._retrained[pair.contender], self._retrained[pair.reference]
        values = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        return Difference.of(values) if values else None

    def _pair(self, pair: Pair, difference: Difference, verdict: Any) -> dict[str, Any]:
        ours, theirs = self._retrained[pair.contender], self._retrained[pair.reference]
        diverged = {name: self._diverged(name) for name in (pair.reference, pair.contender) if self._diverged(name)}
        words = UNDECIDED if diverged else verdict.words
        record = {
            **asdict(pair),
            "verdict": words,
            "mean": difference.spread.mean,
            "deviation": _finite(difference.spread.deviation),
            "low": _finite(difference.low),
            "high": _finite(difference.high),
            "seeds": len(difference.values),
            "p": difference.p,
            "p_adjusted": verdict.p,
            "differences": {str(seed): value for seed, value in difference.values.items()},
            "probability_of_improvement": probability_of_improvement(
                list(ours.values()), list(theirs.values()), sign=self._sign
            ),
            "diverged": diverged,
        }
        return record | {"sentence": sentence(record, margin=self._protocol.margin, unit=self.unit)}

    def optimizer(self, name: str) -> dict[str, Any]:
        tuning, family = self._tuning, next(each for each in self._contest.families if name in each)
        records = [folder.metrics() for folder in self._folders(name)]
        reached = [
            time_to(each, self._key, self._target(family) / self._scale, sign=self._sign,
                    steps=self._protocol.steps_per_epoch)
            for each in records
        ]  # fmt: skip
        scores = list(self._retrained[name].values()) or [nan]
        best, first = tuning.found[name], tuning.at_edge.get(name)
        top = max(tuning.found[each].score for each in family)
        return {
            "name": name,
            "baseline": self._contest.recipe.baselines.get(name),
            "settings": described(tuning.grids[name].axes, best.values),
            "tuning_score": self._scale * self._sign * best.score,
            "trials": len(tuning.scores[name]),
            "at_edge": [list(edge) for edge in first.edges] if first else [],
            "still_at_edge": [list(edge) for edge in best.edges],
            "scores": {str(seed): score for seed, score in self._retrained[name].items()},
            **{key: _finite(value) for key, value in asdict(Spread.of(scores)).items()},
            "diverged": self._diverged(name),
            "reached": sum(isfinite(each.steps) for each in reached),
            "steps_to_target": _finite(middle(each.steps for each in reached)),
            "seconds_to_target": _finite(middle(each.seconds for each in reached)),
            "within": within(tuning.scores[name], top),
            "norm": _ends(records, "weight_norm"),
            "effective_step": _ends(records, "effective_step"),
            "ms_per_step": fmean(median(each["ms_per_step"] for each in run) for run in records) if records else None,
            "projected": projected_shares(self._folders(name)),
        }

    def family(self, family: tuple[str, ...]) -> dict[str, Any]:
        return {
            "names": list(family),
            "target": self._target(family),
            "heat": heat_maps(self._tuning, family, scale=self._sign * self._scale),
        }

    def noise(self) -> list[dict[str, Any]]:
        """What rounding alone does to the baselines."""
        found = []
        for name, scores in self._noise.items():
            own = self._retrained[name]
            values = {seed: scores[seed] - own[seed] for seed in scores if seed in own}
            if values:
                spread = Spread.of(list(values.values()))
                differences = {str(seed): value for seed, value in values.items()}
                found.append({"name": name, "differences": differences, "mean": spread.mean,
                              "deviation": _finite(spread.deviation)})  # fmt: skip
        return found

    def notes(self) -> list[str]:
        """What limits the verdicts, in words."""
        pairs, seeds = len(self._contest.pairs), self._protocol.choices.seeds
        notes = []
        if seeds < seeds_needed(pairs):
            notes.append(
                f"A page with {pairs} comparison{'s' * (pairs > 1)} needs {seeds_needed(pairs)} seeds to"
                f" call one better or worse; here are {seeds}."
            )
        for name, each in self._tuning.found.items():
            if each.edges:
                places = ", ".join(f"{setting} ({side})" for setting, side in each.edges)
                notes.append(f"The best trial of {name} still lies at the edge of its range: {places}.")
        if self._protocol.choices.smoke:
            notes.append("A smoke test, on a few generated samples: these numbers mean nothing.")
        return notes

    def _target(self, family: Sequence[str]) -> float:
        scores = list(self._retrained[family[0]].values())
        return median(scores) if scores else self._sign * float("inf")

    def _diverged(self, name: str) -> int:
        return self._protocol.choices.seeds - len(self._retrained[name])

    def _folders(self, name: str) -> list[RunFolder]:
        """The runs that did not diverge."""
        return [RunFolder(self._out / RETRAINED / f"{name}-seed{seed}") for seed in self._retrained[name]]


def _by_seed(scores: Mapping[str, float | None], scale: float) -> dict[int, float]:
    return {int(seed): scale * score for seed, score in scores.items() if score is not None}


def _ends(records: Sequence[Sequence[Mapping[str, Any]]], key: str) -> list[float]:
    """Mean over runs after the first and after the last epoch; empty without any run."""
    return [] if not records else [fmean(each[place][key] for each in records) for place in (0, -1)]


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None

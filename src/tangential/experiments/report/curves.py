"""The quantities of a comparison as they are drawn: what each is called, its unit and scale, and the lines of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tangential.experiments.report.comparison import Comparison, Group
from tangential.experiments.report.series import Band, banded
from tangential.experiments.task import Headline

MOST = 60
"""A page draws at most so many quantities."""


@dataclass(frozen=True)
class Curve:
    """One quantity, as it is drawn.

    Args:
        key: Its name in the metrics.
        title: What stands above the plot.
        axis: What stands beside it, with the unit.
        scale: What a value is multiplied with.
        log: Whether the axis is logarithmic at first.
        higher_is_better: Which way it is good.
    """

    key: str
    title: str
    axis: str
    scale: float = 1.0
    log: bool = False
    higher_is_better: bool = True

    @property
    def in_percent(self) -> bool:
        """Whether it is shown in per cent, with two decimals."""
        return self.axis.endswith("(%)")


LOSS = Curve("train_loss", "Training loss", "training loss (nats)", log=True, higher_is_better=False)
TEST_LOSS = Curve("test_loss", "Test loss", "test loss (nats)", log=True, higher_is_better=False)
NORM = Curve("weight_norm", "Weight norm", "weight norm |w|")
STEP = Curve("effective_step", "Effective step size", "effective step |Δ(w/|w|)|", log=True)
ANGLE = Curve("angle", "Angle per step", "median angle per step (rad)", log=True)
RATE = Curve("lr", "Learning rate", "learning rate", log=True)

_KNOWN = {curve.key: curve for curve in (LOSS, NORM, STEP, ANGLE, TEST_LOSS, RATE)}
_NOT_DRAWN = ("seconds", "ms_per_step")
_SHARES = re.compile(r"test_.*(accuracy|(?<![a-z])ap[0-9]*|recall_at_[0-9]+|(?<![a-z])auc|(?<![a-z])f1)")
_ABBREVIATED = re.compile("(ap|f)[0-9]*|auc|roc|pr|voc")
_LOW = ("loss", "perplexity", "error", "error_rate", "eer", "rmse", "mae")


@dataclass(frozen=True)
class Line:
    """One group's curve, and how it is drawn.

    Args:
        label: The group.
        band: Mean, least and greatest value over its seeds.
        hue: Number of its hue.
        role: `baseline`, `projected`, or `single` where a group is compared with none.
    """

    label: str
    band: Band
    hue: int
    role: str


def curve(key: str, headlines: Mapping[str, Headline] | None = None) -> Curve:
    """Say how a quantity is drawn: as its task says, or else as can be guessed from its name.

    Losses, errors and perplexities should be low; a name that says nothing is its own title.

    Args:
        key: Its name in the metrics.
        headlines: What tasks say of the scores they are about, as `Comparison.headlines` has it.

    Example:
        >>> curve("test_accuracy").axis, curve("eval/f1").title, curve("test_perplexity").higher_is_better
        ('test accuracy (%)', 'eval/f1', False)
        >>> curve("test_bits", {"test_bits": Headline("bits", "bits per byte", 1.4, False)}).axis
        'test bits per byte'
    """
    told = (headlines or {}).get(key)
    if told is not None:
        title = f"Test {told.label.partition(' (')[0]}"
        return Curve(key, title, f"test {told.label}", told.scale, higher_is_better=told.higher_is_better)
    if key in _KNOWN:
        return _KNOWN[key]
    words = " ".join(_written(word) for word in key.split("_")) if key.startswith("test_") else key
    title = words[0].upper() + words[1:] if words != key else key
    if _SHARES.fullmatch(key):
        return Curve(key, title, f"{words} (%)", scale=100.0)
    return Curve(key, title, words, higher_is_better=not key.endswith(_LOW))


def _written(word: str) -> str:
    """The abbreviations among the scores in capitals: `ap50` is AP50."""
    return word.upper() if _ABBREVIATED.fullmatch(word) else word


def chosen(comparison: Comparison) -> list[Curve]:
    """List what is drawn: the scores, the losses, norm, steps and angle, and then all else, up to a bound."""
    keys = [key for key in comparison.quantities() if key not in _NOT_DRAWN]
    order = [*comparison.scores, *_KNOWN]
    known = [key for key in order if key in keys]
    return [curve(key, comparison.headlines) for key in dict.fromkeys((*known, *keys))][:MOST]


def lines(comparison: Comparison, drawn: Curve) -> list[Line]:
    """Summarise a quantity over the seeds of each group that has it."""
    styles = roles(comparison)
    made = []
    for group in comparison.groups:
        series = [run.curves[drawn.key] for run in group.runs.values() if drawn.key in run.curves]
        if series:
            band = banded(series)
            scaled = Band(band.x, drawn.scale * band.mean, drawn.scale * band.low, drawn.scale * band.high)
            made.append(Line(group.label, scaled, *styles[group.label]))
    return made


def roles(comparison: Comparison) -> dict[str, tuple[int, str]]:
    """Label -> (number of its hue, its role); a baseline and what is compared with it share a hue."""
    families = list(dict.fromkeys(_family(group) for group in comparison.groups))
    paired = {label for pair in comparison.pairs() for label in (pair[0].label, pair[1].label)}
    return {
        group.label: (families.index(_family(group)), _role(group, group.label in paired))
        for group in comparison.groups
    }


def _role(group: Group, paired: bool) -> str:
    if group.baseline is not None:
        return "projected"
    return "baseline" if paired else "single"


def _family(group: Group) -> str:
    return group.baseline or group.label

"""The quantities of a comparison as charts: title, unit, scale and lines; the page and the PNG files draw the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tangential.experiments.report.comparison import Comparison
from tangential.experiments.report.series import Band, banded
from tangential.experiments.report.styles import Style, styles
from tangential.experiments.task import Headline

MOST = 60
"""A page draws at most so many quantities."""


@dataclass(frozen=True)
class Curve:
    """One quantity.

    Args:
        key: Its name in the metrics.
        title: Title of its plot.
        axis: Label of the vertical axis, with the unit.
        scale: Factor by which its values are multiplied.
        log: Whether a logarithmic axis suits it.
        higher_is_better: Whether more is better.
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
    """One group's line in a chart.

    Args:
        label: The group.
        band: Mean, least and greatest value over its seeds.
        style: Colour and dash.
    """

    label: str
    band: Band
    style: Style


@dataclass(frozen=True)
class Chart:
    """A quantity with its lines, one per group that has it."""

    curve: Curve
    lines: tuple[Line, ...]

    @property
    def log(self) -> bool:
        """Whether the axis is logarithmic at first: where that suits the quantity and all values are positive."""
        return self.curve.log and all(float(line.band.low.min()) > 0 for line in self.lines)


def curve(key: str, headlines: Mapping[str, Headline] | None = None) -> Curve:
    """Title, unit and scale of a quantity: those of its task's headline, or else a guess from its name.

    Losses, errors and perplexities should be low; a name without known words is its own title.

    Args:
        key: Its name in the metrics.
        headlines: How tasks show the scores they are about, as `Comparison.headlines` has it.

    Examples:
        >>> curve("test_accuracy").axis, curve("eval/f1").title, curve("test_perplexity").higher_is_better
        ('test accuracy (%)', 'eval/f1', False)
        >>> curve("test_bits", {"test_bits": Headline("bits", "bits per byte", 1.4, False)}).axis
        'test bits per byte'
    """
    headline = (headlines or {}).get(key)
    if headline is not None:
        title = f"Test {headline.label.partition(' (')[0]}"
        return Curve(key, title, f"test {headline.label}", headline.scale, higher_is_better=headline.higher_is_better)
    if key in _KNOWN:
        return _KNOWN[key]
    words = " ".join(_written(word) for word in key.split("_")) if key.startswith("test_") else key
    title = words[0].upper() + words[1:] if words != key else key
    if _SHARES.fullmatch(key):
        return Curve(key, title, f"{words} (%)", scale=100.0)
    return Curve(key, title, words, higher_is_better=not key.endswith(_LOW))


def _written(word: str) -> str:
    """Abbreviations of scores in capitals: `ap50` is AP50."""
    return word.upper() if _ABBREVIATED.fullmatch(word) else word


def charts(comparison: Comparison) -> list[Chart]:
    """Charts of the scores, the losses, norm, steps and angle, and then of all else, `MOST` at most."""
    there = dict.fromkeys(key for key in comparison.quantities() if key not in _NOT_DRAWN)
    order = [key for key in dict.fromkeys([*comparison.scores, *_KNOWN]) if key in there]
    return [chart(comparison, key) for key in [*dict.fromkeys([*order, *there])][:MOST]]


def chart(comparison: Comparison, key: str) -> Chart:
    """Summarise a quantity over the seeds of each group that has it."""
    drawn = curve(key, comparison.headlines)
    looks = styles(comparison)
    lines = []
    for group in comparison.groups:
        series = [run.curves[key] for run in group.runs.values() if key in run.curves]
        if series:
            band = banded(series)
            scaled = Band(band.x, drawn.scale * band.mean, drawn.scale * band.low, drawn.scale * band.high)
            lines.append(Line(group.label, scaled, looks[group.label]))
    return Chart(drawn, tuple(lines))

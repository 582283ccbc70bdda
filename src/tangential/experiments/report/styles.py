"""Colours and dashes of the lines, the same on the page and in the PNG files.

A baseline and its projected optimizer share a hue. The baseline is the dashed, paler line of the two, so that they are
told apart without colour too. When the hues are used up they begin again with other dashes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tangential.experiments.report.comparison import Comparison, Group

# (baseline, projected) of each hue; neighbours differ in lightness too, and both stand out from the page's backgrounds
LIGHT = (
    ("#4f90cc", "#004c8c"),  # blue
    ("#cc7415", "#a63d00"),  # orange
    ("#399873", "#005c45"),  # green
    ("#b07cc6", "#6b2d86"),  # purple
    ("#a0894f", "#5e4a12"),  # ochre
    ("#8a939e", "#3d4650"),  # grey
)
DARK = (
    ("#4a8cc7", "#9dd1ff"),
    ("#c4742a", "#ffbe85"),
    ("#3d9a78", "#8fe3c3"),
    ("#9a66b3", "#e0b8f2"),
    ("#a08a4c", "#ecd99c"),
    ("#7f8893", "#ccd3db"),
)
_DASHES = ("solid", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """Looks of a group's lines.

    Args:
        hue: Number of its hue, the same for a baseline and what is compared with it.
        role: `baseline`, `projected`, or `single` where a group is compared with none.
    """

    hue: int
    role: str

    @property
    def light(self) -> str:
        """Colour on a light ground."""
        return LIGHT[self.hue % len(LIGHT)][self.role != "baseline"]

    @property
    def dark(self) -> str:
        """Colour on a dark ground."""
        return DARK[self.hue % len(DARK)][self.role != "baseline"]

    @property
    def dash(self) -> str:
        """Dash of the line, by plotly's name for it."""
        return "dash" if self.role == "baseline" else _DASHES[self.hue // len(LIGHT) % len(_DASHES)]


def styles(comparison: Comparison) -> dict[str, Style]:
    """Label -> style."""
    families = list(dict.fromkeys(_family(group) for group in comparison.groups))
    hues = {family: hue for hue, family in enumerate(families)}
    paired = {label for pair in comparison.pairs() for label in (pair[0].label, pair[1].label)}
    return {
        group.label: Style(hues[_family(group)], _role(group, group.label in paired)) for group in comparison.groups
    }


def _role(group: Group, paired: bool) -> str:
    if group.baseline is not None:
        return "projected"
    return "baseline" if paired else "single"


def _family(group: Group) -> str:
    return group.baseline or group.label

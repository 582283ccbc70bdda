"""The policy of rotational equilibrium: a fixed norm, and a fixed angle per step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tangential.radial.angles import predicted_angle
from tangential.radial.policy import Array, Step, StepPolicy, Sums, Terms, check_numbers

Angle = float | Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Rotate(StepPolicy):
    """Rotational equilibrium from the first step on: every block keeps its norm and turns by a set angle.

    With `q` the projected step and `n` the initial norm, the weight goes to `w + eta n q / rms(|q|)`, retracted to `n`.
    `rms` is a debiased moving average over steps, so the angle is `atan(eta)` on average, and at every step if
    `averaging` is 0. Source: Kosson et al., arXiv 2305.17212, section 5 and code. Decoupled decay sets the angle and
    has no other effect.

    Args:
        eta: The angle in radians per step, or a function of the parameter group, which can follow a schedule. None for
            what the paper predicts from learning rate, decay and momentum; there are formulas for AdamW, SGD and Lion.
        averaging: Decay rate of the average, in [0, 1].
        center: Whether the mean of each block is taken out too, of the weights once, when they are wrapped, and of
            every step, as the authors' code does by default.
        eps: Added to the average length of updates.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A field out of range.

    Examples:
        >>> import math, torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1e-3), Rotate(eta=1.0, averaging=0.0), {w: Blocks()})
        >>> w.grad = torch.tensor([[5.0, -7.0]])
        >>> optimizer.step()  # an eighth of a turn, however long the gradient is
        >>> [round(x, 4) for x in w[0].tolist()]
        [0.7071, 0.7071]
    """

    eta: Angle | None = None
    averaging: float = 0.9
    center: bool = False
    eps: float = 1e-8
    wd_ratio = 0.0
    known_only = True
    turns = True

    def __post_init__(self) -> None:
        check_numbers("Rotate", "in [0, 1)", averaging=self.averaging)
        check_numbers("Rotate", "finite and at least 0", eps=self.eps)
        if self.eta is not None and not callable(self.eta):
            check_numbers(type(self).__name__, "positive and finite", eta=self.eta)

    @property
    def centers(self) -> bool:
        """Whether the mean of the step is taken out."""
        return self.center

    @property
    def names(self) -> tuple[str, ...]:
        """Norm, average square of the update, and the weight that this average has gathered."""
        return ("radius", "update_sq", "update_weight")

    def refuse(self, base: Any, group: dict[str, Any], decoupled: bool) -> str | None:
        """Without `eta`, a base and settings that have a prediction are needed."""
        if self.eta is not None or predicted_angle(base, group) is not None:
            return None
        return (
            f"Rotate(eta=None) has no angle for {type(base).__name__} with weight_decay={group.get('weight_decay')}:"
            " it is predicted for AdamW, SGD and Lion with a positive weight decay. Pass eta, or give the group"
            " blocks=None"
        )

    def angle(self, step: Step) -> Array:
        """The tangent of the angle per step."""
        if self.eta is None:
            return predicted_angle(step.base, step.group) or 0.0
        return self.eta(step.group) if callable(self.eta) else self.eta

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """`c` is how many `q` are added, `f` the factor that retracts. What is radial up to rounding turns nothing."""
        radius, update_sq, weight = kept
        radius = step.where(radius > 0, radius, sums.ww**0.5)
        along, mean = step.ratio(sums.wd, sums.ww), sums.sd / sums.n
        qq = sums.dd - along * sums.wd - mean * sums.sd
        is_still = step.is_lost(qq, sums.ww) | step.cancels(qq, sums.dd)
        length = step.per_lr(step.where(is_still, 0.0, qq) ** 0.5)
        b = self.averaging if step.moves else 1.0  # a step that shows no update is not averaged
        update_sq, weight = b * update_sq + (1 - b) * length * length, b * weight + (1 - b)
        rms = (update_sq / weight) ** 0.5 + self.eps
        c = step.where(is_still, 0.0, self.angle(step) * step.per_lr(step.ratio(radius, rms)))
        f = step.ratio(radius, step.length(sums.ww + c * c * qq), default=1.0)
        moves = radius > 0
        change = step.where(moves, f * c, 1.0)
        shift = -change * mean if self.center else None
        return Terms(step.where(moves, f * (1 - c * along), 1.0), change, (radius, update_sq, weight), shift)

"""What a policy is: per block, how much of the weight and of the base's step makes the new weight.

    w   weight before the step       d   what the base added to it, without its decoupled weight decay: d = -lr u
    r   |w|                          g   gradient
    lr  learning rate                decay   lr times weight decay, 0 where the base has none that is decoupled

Policies are arithmetic on sums per block, in plain operators, as `tangential.algorithm` is; `tangential.radial.repair`
walks the tensors. The new weight is `A w + B d - ratio decay w`, where `A`, `B` and `ratio` are one number per block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

Array = Any
"""An array with operators, one element per block."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over each block: `ww` is w.w, `wd` is w.d, `dd` is d.d, `sd` the sum of d, and `n` the elements.

    What a policy does not need is 0.

    Examples:
        >>> Sums(ww=4.0, wd=1.0, dd=2.0).scaled(3.0)
        Sums(ww=4.0, wd=3.0, dd=18.0, sd=0.0, n=1.0)
    """

    ww: Array
    wd: Array
    dd: Array = 0.0
    sd: Array = 0.0
    n: Array = 1.0

    def scaled(self, by: Array) -> Sums:
        """The sums with `by` times the step."""
        return Sums(ww=self.ww, wd=self.wd * by, dd=self.dd * by * by, sd=self.sd * by, n=self.n)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Settings of one group's step.

    Args:
        lr: Learning rate; a float or a 0-d array.
        decay: What the base's decoupled decay takes of a weight: `lr * weight_decay`.
        eps: Smallest norm that the paper's projection divides by.
        rounding: Relative error of one operation on weights.
        where: Elementwise selection, such as `torch.where`.
        group: The parameter group.
        base: The optimizer that is wrapped.
    """

    lr: Array
    decay: Array
    eps: float
    rounding: float
    where: Callable[..., Array]
    group: dict[str, Any]
    base: Any = None

    @property
    def moves(self) -> bool:
        """Whether the learning rate is not known to be 0, so that the step shows the update."""
        return not isinstance(self.lr, (int, float)) or self.lr != 0

    def ratio(self, a: Array, b: Array, default: float = 0.0) -> Array:
        """`a / b`, and `default` where `b` is not positive."""
        positive = b > 0
        return self.where(positive, a / self.where(positive, b, 1.0), default)

    def length(self, squared: Array) -> Array:
        """The root of a square that rounding may have made negative."""
        return self.where(squared > 0, squared, 0.0) ** 0.5

    def is_lost(self, squared: Array, ww: Array) -> Array:
        """Whether the square of a step's length is no more than rounding of the weight; not for NaN."""
        return squared <= (4 * self.rounding) ** 2 * ww

    def cancels(self, rest: Array, of: Array) -> Array:
        """Whether what a subtraction has left of a sum of squares is no more than rounding; not for NaN."""
        return rest <= 16 * self.rounding * of

    def per_lr(self, x: Array) -> Array:
        """A step's number as the update's: divided by the learning rate; 0 at a learning rate of 0."""
        if not self.moves:
            return x * 0.0
        return x / self.lr if isinstance(self.lr, (int, float)) else self.ratio(x, self.lr)


class Terms(NamedTuple):
    """The new weight of a block: `weight * w + change * d + shift`, before decay.

    Args:
        weight: `A`.
        change: `B`.
        kept: The policy's state after the step.
        shift: One number that every element of the block gets.
    """

    weight: Array
    change: Array
    kept: tuple[Array, ...] = ()
    shift: Array | None = None


class Policy:
    """What all policies have. A subclass is a frozen dataclass, and one of the kinds below."""

    wd_ratio: float
    """Decoupled weight decay of treated weights, relative to that of the others."""

    known_only: ClassVar[bool] = False
    """Whether a weight must be treated at every step, so that the paper's test, which flickers, cannot choose it."""

    turns: ClassVar[bool] = False
    """Whether the policy sets the size of the step itself."""

    def refuse(self, base: Any, group: dict[str, Any], decoupled: bool) -> str | None:
        """Why this policy makes no sense over this base and group; None if it does."""
        return None

    def decay_ratio(self, step: Step) -> Array:
        """Decay of treated weights relative to the base's."""
        return self.wd_ratio


class StepPolicy(Policy):
    """A policy that is a formula of the sums: the new weight is a combination of the old one and the step."""

    scales: ClassVar[bool] = True
    """Whether `Terms.change` may differ from 1."""

    needs_length: ClassVar[bool] = True
    """Whether `terms` reads `Sums.dd`."""

    @property
    def centers(self) -> bool:
        """Whether `terms` reads the mean of the step, `Sums.sd` and `Sums.n`."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the state that is kept per block."""
        return ()

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """The new weight, from the sums and what was kept of the step before, which is 0 at the first."""
        raise NotImplementedError


class GradientPolicy(Policy):
    """A policy that changes the gradient and leaves the step to the base."""

    def gradient(self, ww: Array, wg: Array, gg: Array, step: Step) -> tuple[Array, Array]:
        """`(a, b)` of the gradient `a g + b w` that the base is given.

        Args:
            ww: w.w of each block.
            wg: w.g.
            gg: g.g.
            step: Settings of the step.
        """
        raise NotImplementedError


class ElementPolicy(Policy):
    """A policy that decides element by element, with `repair.elementwise`."""


_RANGES: dict[str, Callable[[float], bool]] = {
    "in [0, 1]": lambda x: 0 <= x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "finite and at least 0": lambda x: 0 <= x < math.inf,
    "positive and finite": lambda x: 0 < x < math.inf,
}


def check_numbers(owner: str, allowed: str, **values: Any) -> None:
    """Raise unless each value is a number in the range, which is one of `_RANGES`.

    Raises:
        TypeError: Not a number.
        ValueError: Out of range.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{owner}: {name}={value!r} must be a number {allowed}")
        if not _RANGES[allowed](value):
            raise ValueError(f"{owner}: {name}={value} must be {allowed}")

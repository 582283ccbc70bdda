"""Policies that set the norm of a weight: brakes, and a fixed norm."""

from __future__ import annotations

from dataclasses import dataclass

from tangential.radial.policy import Array, Step, StepPolicy, Sums, Terms, check_numbers


@dataclass(frozen=True)
class Brake(StepPolicy):
    """A part of the change of the norm: `|w'| = r + s (|w + d| - r)`, with the direction of `w + d`.

    `s` is `outward` where the norm grows and `inward` where it shrinks. At 1 and 1 the step is the base's, bit for bit.
    Source: `RadialBrakeHook` of NVIDIA's Emerging-Optimizers (their decay is part of `d`, ours comes after).

    Args:
        outward: Part of a growth that is kept, in [0, 1].
        inward: Part of a shrinkage that is kept, in [0, 1].
        wd_ratio: Decoupled decay of treated weights, relative to that of the others, in [0, 1].

    Raises:
        TypeError: A field that is not a number.
        ValueError: A field out of range.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), Brake(outward=0.5), {w: Blocks()})
        >>> w.grad = torch.tensor([[-2.0, 0.0]])
        >>> optimizer.step()  # the base would go to 3
        >>> w.tolist()
        [[2.0, 0.0]]
    """

    outward: float = 0.5
    inward: float = 1.0
    wd_ratio: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(
            type(self).__name__, "in [0, 1]", outward=self.outward, inward=self.inward, wd_ratio=self.wd_ratio
        )

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """`A = B = 1 + (s - 1) (n - r) / n` with `n = |w + d|`: exactly 1 at `s = 1`."""
        growth = 2 * sums.wd + sums.dd  # n^2 - r^2, which needs no difference of large numbers
        n = step.length(sums.ww + growth)
        s = step.where(growth > 0, self.outward, self.inward)
        factor = 1 + (s - 1) * step.ratio(growth, n * (n + sums.ww**0.5))
        return Terms(factor, factor)


@dataclass(frozen=True)
class RecordBrake(StepPolicy):
    """The brake as a public training record has it, which damps the radial part of the step and retracts.

    With `u = -d / lr` and `c = u.w / w.w`: `u' = u + (s - 1) c w`, where `s` is `outward` for `c < 0` and else
    `inward`; `u'' = u' max(1, floor r / |u'|)`; the new weight has the direction of `w - lr u''` and the norm
    `r - lr u''.w / r`. It differs from `Brake` at second order: at 1 and 1 it still takes out the growth that comes
    from the tangential part. Source: modded-nanogpt, track 3, record of 2026-05-11.

    Args:
        outward: Part of an outward radial component that is kept, in [0, 1].
        inward: Part of an inward one, in [0, 1].
        floor: Least length of the update relative to the weight's, in [0, 1]; 0 turns it off.
        wd_ratio: Decoupled decay of treated weights, relative to that of the others; the record has no decay.

    Raises:
        TypeError: A field that is not a number.
        ValueError: A field out of range.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), RecordBrake(floor=0.0), {w: Blocks()})
        >>> w.grad = torch.tensor([[-2.0, 0.0]])
        >>> optimizer.step()
        >>> w.tolist()
        [[2.0, 0.0]]
    """

    outward: float = 0.5
    inward: float = 1.0
    floor: float = 0.35
    wd_ratio: float = 1.0

    def __post_init__(self) -> None:
        fields = {name: getattr(self, name) for name in ("outward", "inward", "floor", "wd_ratio")}
        check_numbers(type(self).__name__, "in [0, 1]", **fields)

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """The damped step `e = d + k w`, floored by `f`, and the factor that retracts `w + f e`."""
        along = step.ratio(sums.wd, sums.ww)
        k = (step.where(along > 0, self.outward, self.inward) - 1) * along
        ee = sums.dd + 2 * k * sums.wd + k * k * sums.ww
        r = sums.ww**0.5
        f = step.ratio(self.floor * r, step.per_lr(step.length(ee)), default=1.0)
        f = step.where((f > 1) & ~step.cancels(ee, sums.dd), f, 1.0)
        we = f * (sums.wd + k * sums.ww)
        target = r + step.ratio(we, r)
        target = step.where(target > 1e-8, target, 1e-8)
        retract = step.ratio(target, step.length(sums.ww + 2 * we + f * f * ee), default=1.0)
        moves = sums.ww > 0
        return Terms(step.where(moves, retract * (1 + f * k), 1.0), step.where(moves, retract * f, 1.0))


@dataclass(frozen=True)
class Fix(StepPolicy):
    """A fixed norm: the step is taken and the weight retracted, `R (w + d) / |w + d|`.

    With steps relative to the norm (`steps="relative"`) this is Hyperball (arXiv 2606.16899). Decoupled decay acts
    along the weight alone, so treated weights have none. A block without length takes the base's steps until it has
    one, which then is its norm.

    Args:
        radius: The norm of every block; None for the norm that each has at its first step. It is kept in the state
            (`radius`), so a state dict continues it.

    Raises:
        TypeError: A radius that is not a number.
        ValueError: A radius that is not positive and finite.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[4.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), Fix(radius=5.0), {w: Blocks()})
        >>> w.grad = torch.tensor([[0.0, -3.0]])
        >>> optimizer.step()
        >>> w.tolist()
        [[4.0, 3.0]]
    """

    radius: float | None = None
    wd_ratio = 0.0
    known_only = True

    def __post_init__(self) -> None:
        if self.radius is not None:
            check_numbers(type(self).__name__, "positive and finite", radius=self.radius)

    @property
    def names(self) -> tuple[str, ...]:
        """The norm of each block, where it is not given."""
        return () if self.radius is not None else ("radius",)

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """`A = B = R / |w + d|`."""
        first = sums.ww**0.5
        radius = step.where(kept[0] > 0, kept[0], first) if kept else self.radius + first * 0
        factor = step.ratio(radius, step.length(sums.ww + 2 * sums.wd + sums.dd), default=1.0)
        factor = step.where(radius > 0, factor, 1.0)
        return Terms(factor, factor, (radius,) if kept else ())

"""Policies that take the radial part out: of the step, of the gradient, and with caution."""

from __future__ import annotations

from dataclasses import dataclass

from tangential.algorithm import radial
from tangential.radial.policy import Array, ElementPolicy, GradientPolicy, Step, StepPolicy, Sums, Terms, check_numbers


@dataclass(frozen=True)
class Project(StepPolicy):
    """The paper's policy: the step without its radial part, `w + d - (w.d / w.w) w`.

    Source: Heo et al., arXiv 2006.08217, section 3.2. The norm then grows as under gradient descent, |w|^2 + |q|^2,
    whatever momentum the base has. `Radial(AdamW(...), Project())` is AdamP, over SGD without decay it is SGDP.

    Args:
        wd_ratio: Decoupled decay of projected weights, relative to that of the others, in [0, 1].

    Raises:
        TypeError: A field that is not a number.
        ValueError: A field out of range.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), Project(), {w: Blocks()})
        >>> w.grad = torch.tensor([[3.0, 4.0]])  # radial: nothing is left of it
        >>> optimizer.step()
        >>> w.tolist()
        [[3.0, 4.0]]
    """

    wd_ratio: float = 0.1
    scales = False
    needs_length = False

    def __post_init__(self) -> None:
        check_numbers(type(self).__name__, "in [0, 1]", wd_ratio=self.wd_ratio)

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """`A = 1 - w.d / |w|^2`, `B = 1`."""
        return Terms(1 - radial(sums.ww, sums.wd, eps=step.eps, where=step.where), 1.0)


@dataclass(frozen=True)
class OrthogonalGradient(GradientPolicy):
    """The gradient without its radial part, before the base sees it: `g - (w.g / w.w) w`, with the length of `g`.

    Source: Prieto et al., arXiv 2501.04697 (⊥Grad). Momentum holds past gradients, which are not orthogonal to the
    present weight, so the step may still be radial. A gradient that is radial up to rounding becomes zero, since only
    rounding would be left to be scaled up. The base's decay stays as it is.

    Args:
        rescale: Whether the gradient keeps its length, as published.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), OrthogonalGradient(), {w: Blocks()})
        >>> w.grad = torch.tensor([[3.0, 4.0]])
        >>> optimizer.step()
        >>> w.tolist(), w.grad.tolist()
        ([[1.0, -5.0]], [[3.0, 4.0]])
    """

    rescale: bool = True
    wd_ratio = 1.0

    def gradient(self, ww: Array, wg: Array, gg: Array, step: Step) -> tuple[Array, Array]:
        """`a = |g| / |g - c w|` and `b = -a c` with `c = w.g / w.w`."""
        along = step.ratio(wg, ww)
        rest = gg - along * wg
        scale = step.ratio(gg, rest, default=1.0) ** 0.5 if self.rescale else 1.0 + 0 * gg
        scale = step.where(step.cancels(rest, gg), 0.0, scale)
        return scale, -scale * along


@dataclass(frozen=True)
class SphericalCaution(ElementPolicy):
    """The projected step, without the elements that point against the projected gradient, projected again.

    `q = P(d)`; `m` is 1 where `q` and `-P(g)` have one sign, divided by the mean of `m` over the weight but at least by
    1e-3; the step is `P(q m)`. Source: timm's `AdamP(caution=True)`, which has it from "cautious optimizers"
    (arXiv 2411.16085) on the sphere. timm cuts the steps of other weights too; here they are the base's.

    Args:
        wd_ratio: Decoupled decay of projected weights, relative to that of the others, in [0, 1].

    Raises:
        TypeError: A field that is not a number.
        ValueError: A field out of range.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0, 0.0]]))
        >>> optimizer = Radial(torch.optim.SGD([w], lr=1.0), SphericalCaution(), {w: Blocks()})
        >>> w.grad = torch.tensor([[0.0, 1.0, 1.0]])  # two of three elements agree, so each counts 3/2
        >>> optimizer.step()
        >>> w.tolist()
        [[1.0, -1.5, -1.5]]
    """

    wd_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(type(self).__name__, "in [0, 1]", wd_ratio=self.wd_ratio)

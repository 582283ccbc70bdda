"""Algorithms 1 (SGDP) and 2 (AdamP) of arXiv 2006.08217, each written once.

The arithmetic is plain operators, so it runs unchanged on a torch tensor, on a list of them with operators, on a NumPy
and on a JAX array: every backend, and every test oracle, is this file. A step has three parts, and only the first and
the last touch whole weights:

1. a rule (`Sgd`, `Adam`) turns the gradient into moments and a direction `u`;
2. from four sums per block, `radial` says how many `w` to take out of `u`, and `cosine_views` whether to;
3. `w <- keep * w - lr * u`, where one factor `keep` per block holds decay and projection.

    w   weight          g   gradient          u   direction before projection
    m   first moment    v   second moment     t   step, from 1
    ww, gg, wg, wu      the sums w.w, g.g, w.g, w.u of each block
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

Array = Any
"""Anything with the operators of an array: torch, NumPy, JAX, or a list of tensors that has them."""

INFINITY = float("inf")


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Algorithm 1, line 3. The buffer starts at zero, so dampening acts at the first step too.

    Examples:
        >>> Sgd(momentum=0.5).advance(2.0, 4.0)
        (4.0,)
    """

    names: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    momentum: float
    dampening: float = 0.0
    nesterov: bool = False

    def advance(self, g: Array, m: Array) -> tuple[Array]:
        """The moments after this step."""
        return (m * self.momentum + g * (1 - self.dampening),)

    def direction(self, g: Array, m: Array) -> Array:
        """The direction, from the moments that `advance` gave."""
        return m * self.momentum + g if self.nesterov else m


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Algorithm 2, lines 3 to 5, with Adam's bias corrections.

    `t` is a float, or an array in float64: in float32, `1 - beta2**t` would be off by 1e-5 at the first steps.

    Examples:
        >>> rule = Adam(t=1.0, betas=(0.9, 0.999), eps=0.0)
        >>> m, v = rule.advance(2.0, 0.0, 0.0)
        >>> round(rule.direction(2.0, m, v), 12)
        1.0
    """

    names: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    t: Array
    betas: tuple[float, float]
    eps: float
    nesterov: bool = False

    def advance(self, g: Array, m: Array, v: Array) -> tuple[Array, Array]:
        """The moments after this step."""
        b1, b2 = self.betas
        return m * b1 + g * (1 - b1), v * b2 + g * g * (1 - b2)

    def direction(self, g: Array, m: Array, v: Array) -> Array:
        """The direction, from the moments that `advance` gave."""
        b1, b2 = self.betas
        u = m * b1 + g * (1 - b1) if self.nesterov else m
        return u * (1 / (1 - b1**self.t)) / ((v * (1 / (1 - b2**self.t))) ** 0.5 + self.eps)


Rule = Sgd | Adam


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What turns a direction into a change of the weight: lines 6 to 9 of both algorithms.

    Args:
        lr: Learning rate; a float or a 0-d array.
        decay: Decoupled weight decay per unit of `lr`; a float or a 0-d array.
        delta: The cosine test fires below `delta / sqrt(elements of the block)`.
        eps: Smallest norm that is divided by.
        wd_ratio: Weight decay of projected weights, relative to that of the others.
    """

    lr: Array
    decay: Array
    delta: float
    eps: float
    wd_ratio: float

    def keep(self, radial: Array) -> Array:
        """The factor on a projected block in line 9: decay and projection in one number."""
        return 1 - self.lr * (self.decay * self.wd_ratio - radial)

    @property
    def plain(self) -> Array:
        """The factor on everything else: decay alone, as in AdamW."""
        return 1 - self.lr * self.decay

    def bound(self, elements: Array) -> Array:
        """What the cosine of so many elements has to stay below in the paper's test (lines 6 and 7)."""
        return self.delta * elements**-0.5


def cosine(ww: Array, gg: Array, wg: Array, *, eps: float, where: Callable[..., Array]) -> Array:
    """|cos(w, g)| of each block. Sums that overflowed determine no angle: not orthogonal."""
    angle = abs(wg) / ((ww**0.5).clip(eps) * (gg**0.5).clip(eps))
    return where((ww < INFINITY) & (gg < INFINITY), angle, INFINITY)


def radial(ww: Array, wu: Array, *, eps: float, where: Callable[..., Array]) -> Array:
    """How many `w` are in `u`, per block: `w.u / (|w| + eps)^2`, and 0 for a block that has no length."""
    has_length = (ww > 0) & (ww < INFINITY)
    length = where(has_length, ww, 1.0) ** 0.5 + eps
    return where(has_length, wu / length / length, 0.0)


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How a backend reduces one number per channel over the channels of a weight, and selects between arrays.

    `total` and `largest` give something that broadcasts against the channels, so that the same gate serves one weight
    and the stacked channels of a whole model.
    """

    total: Callable[[Array], Array]
    largest: Callable[[Array], Array]
    where: Callable[..., Array]


def cosine_views(
    sums: tuple[Array, ...], elements: Array, channels: Array, projection: Projection, reduction: Reduction
) -> tuple[Any, Any]:
    """Lines 6 and 7, the paper's test: is the weight invariant by channel, or else as a whole?

    A layer's sums are the sums over its channels, so one pass over the weight serves both views. Nothing branches on
    data.

    Args:
        sums: `ww, gg, wg`, `(channels,)` each, and whatever follows them.
        elements: Elements per channel.
        channels: Channels of the weight.
        projection: `delta` and `eps`.
        reduction: Reductions over the channels of a weight.

    Returns:
        Whether the channel view fires, and whether the layer view does where the channel view does not.
    """
    ww, gg, wg, *_ = sums
    layer_ww, layer_gg, layer_wg = (reduction.total(x) for x in (ww, gg, wg))
    angle = cosine(ww, gg, wg, eps=projection.eps, where=reduction.where)
    by_channel = reduction.largest(angle) < projection.bound(elements)
    by_layer = passes((layer_ww, layer_gg, layer_wg), elements * channels, projection, reduction.where)
    return by_channel, by_layer & ~by_channel


def passes(sums: tuple[Array, ...], elements: Array, projection: Projection, where: Callable[..., Array]) -> Array:
    """Whether weight and gradient are as good as orthogonal, per block of so many elements, from `ww, gg, wg`.

    The channel view fires where every channel passes, the layer view where the whole weight does.
    """
    return cosine(*sums, eps=projection.eps, where=where) < projection.bound(elements)


def view_radial(
    channel: tuple[Array, Array],
    layer: tuple[Array, Array],
    by_channel: Array,
    projection: Projection,
    where: Callable[..., Array],
) -> Array:
    """How many `w` to take out of `u`, per channel, from `ww, wu` of each channel, or else from those of the layer."""
    of_channel = radial(*channel, eps=projection.eps, where=where)
    of_layer = radial(*layer, eps=projection.eps, where=where)
    return where(by_channel, of_channel, of_layer)

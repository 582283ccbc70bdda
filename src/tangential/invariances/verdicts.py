"""The answer for one parameter: what kind of invariance it has, in which blocks, and the sentences that explain it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from tangential.blocks import Blocks

Kind = Literal[
    "channel", "groups", "layer", "partial", "none", "joint", "near", "dead", "unused", "frozen", "inconclusive"
]
"""The first four have blocks; the others have none and are never projected.

channel: every index of one dimension is a block. groups: every so many indices. layer: the whole weight. partial:
    some indices are in blocks and the others are variant, or the blocks differ in length. none: variant. joint: only
    together with another parameter. near: almost, but not exactly. dead: its true gradient is zero. unused: no part
    of the outputs. frozen: `requires_grad` is off. inconclusive: this batch cannot tell.
"""
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Absorber:
    """The call after which a change of scale is gone.

    Attributes:
        module: Name of the module that made the call; empty for the model itself.
        kind: The module's class.
        op: The torch function.
    """

    module: str
    kind: str
    op: str

    def __str__(self) -> str:
        return f"{self.module or 'the model'} ({self.kind}, {self.op})"


@dataclass(frozen=True)
class Verdict:
    """What is known about one parameter.

    Attributes:
        name: Its name in the user's model.
        shape: Its shape.
        kind: See `Kind`.
        blocks: What an optimizer may project, or None.
        residual: The largest cosine between a block and its gradient, epsilons shrunk away.
        residual_eps: The same with the model's own epsilons.
        doubtful: How many blocks exceed `0.1 / sqrt(d)` with the model's own epsilons, `d` elements each.
        absorbers: Where its scale is absorbed.
        reason: Why, in words, where there is more to say.
        chosen: Whether the user set the blocks.

    Examples:
        >>> Verdict("conv.weight", (8, 3, 3, 3), "channel", Blocks()).label
        'channel'
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    blocks: Blocks | None = None
    residual: float | None = None
    residual_eps: float | None = None
    doubtful: int = 0
    absorbers: tuple[Absorber, ...] = ()
    reason: str = ""
    chosen: bool = False

    @property
    def label(self) -> str:
        """The kind, with the sizes that belong to it."""
        if self.blocks is None:
            return self.kind
        return kind_and_label(self.blocks, self.shape)[1]

    @property
    def block_count(self) -> int:
        """How many invariant blocks it has."""
        return 0 if self.blocks is None else sum(invariant for _, invariant in self.blocks.runs(self.shape))


def kind_and_label(blocks: Blocks, shape: tuple[int, ...]) -> tuple[Kind, str]:
    """The name of a cut of a weight of this shape, short and with its sizes."""
    lengths = [length for length, invariant in blocks.runs(shape) if invariant]
    rows, sizes = shape[blocks.dim], sorted(set(lengths))
    where = f", dim {blocks.dim}" if blocks.dim else ""
    if len(lengths) == 1 and sizes[0] == rows:
        return "layer", "layer"
    if sum(lengths) < rows or len(sizes) > 1:
        of = "/".join(map(str, sizes))
        blocks_of = "1 block of" if len(lengths) == 1 else f"{len(lengths)} blocks of"
        return "partial", f"{blocks_of} {of} ({sum(lengths)}/{rows} rows{where})"
    if sizes == [1]:
        return "channel", f"channel{f' (dim {blocks.dim})' if blocks.dim else ''}"
    return "groups", f"groups of {sizes[0]}{where}"


_MEANINGS = {
    "none": "It is scale-variant: rescaling it changes the outputs.",
    "joint": "Alone it is scale-variant.",
    "near": "It is almost scale-invariant.",
    "dead": "Its true gradient is zero; what arrives is rounding.",
    "unused": "It takes no part in the outputs.",
    "frozen": "It has requires_grad off.",
    "inconclusive": "This batch cannot tell.",
}


def explained(verdict: Verdict) -> str:
    """A few sentences: what the answer is, where the scale goes, and how far to trust it."""
    shape = "x".join(map(str, verdict.shape)) or "scalar"
    sentences = [f"{verdict.name} ({shape}): {verdict.label}.", _meaning(verdict)]
    if verdict.absorbers:
        sentences.append(f"The scale is absorbed by {', '.join(map(str, verdict.absorbers))}.")
    if verdict.reason:
        sentences.append(f"{verdict.reason[0].upper()}{verdict.reason[1:]}.")
    if verdict.residual is not None:
        sentences.append(_residuals(verdict))
    if verdict.blocks is None:
        sentences.append("It is never projected.")
    return " ".join(sentence for sentence in sentences if sentence)


def _meaning(verdict: Verdict) -> str:
    if verdict.chosen:
        return "You set this."
    if verdict.blocks is None:
        return _MEANINGS[verdict.kind]
    count = verdict.block_count
    if count == 1:
        return "It may be rescaled as a whole without changing the outputs."
    sizes = {length * prod(verdict.shape) // verdict.shape[verdict.blocks.dim] for length in _lengths(verdict)}
    elements = " or ".join(map(str, sorted(sizes)))
    return f"Each of its {count} blocks of {elements} elements may be rescaled without changing the outputs."


def _lengths(verdict: Verdict) -> list[int]:
    assert verdict.blocks is not None
    return [length for length, invariant in verdict.blocks.runs(verdict.shape) if invariant]


def _residuals(verdict: Verdict) -> str:
    sentence = f"The largest cosine between a block and its gradient is {verdict.residual:.1e}"
    if verdict.residual_eps is None:
        return sentence + "."
    sentence += f", and {verdict.residual_eps:.1e} with the model's own epsilons"
    if verdict.doubtful:
        sentence += f", where {verdict.doubtful} of {verdict.block_count} blocks exceed 0.1/sqrt(d)"
    return sentence + (_UP_TO_AN_EPSILON if verdict.residual_eps > VISIBLE else ".")


VISIBLE = 1e-9
"""Residuals above it are more than rounding."""
_UP_TO_AN_EPSILON = ". So it is invariant up to an epsilon of the model, which was shrunk to find this."

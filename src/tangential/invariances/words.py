"""A verdict in words."""

from __future__ import annotations

from math import prod

from tangential.invariances.verdicts import Verdict

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
    said = f"The largest cosine between a block and its gradient is {verdict.residual:.1e}"
    if verdict.residual_eps is not None:
        said += f", and {verdict.residual_eps:.1e} with the model's own epsilons"
    if verdict.doubtful:
        said += f", where {verdict.doubtful} of {verdict.block_count} blocks exceed 0.1/sqrt(d)"
    return said + "."

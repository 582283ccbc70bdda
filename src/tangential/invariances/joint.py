"""Pairs that are invariant only together: a weight and its bias before a normalisation.

`W x + b` before a LayerNorm can be rescaled, but neither `W` nor `b` alone. Projecting `W` would be wrong, so a pair is
reported and not projected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from torch import nn

from tangential.invariances.euler import Samples
from tangential.invariances.partition import finest
from tangential.invariances.verdicts import kind_and_label


def partners(model: nn.Module, names: Sequence[str], samples: Samples) -> dict[str, str]:
    """For each of these parameters that is invariant with another of its module: which, and how, in words."""
    found: dict[str, str] = {}
    for first, second in _siblings(model, set(names)):
        if first in found or second in found:
            continue
        if how := _together(samples, first, second):
            found[first] = f"invariant only jointly with {second} ({how})"
            found[second] = f"invariant only jointly with {first} ({how})"
    return found


def _siblings(model: nn.Module, names: set[str]) -> Iterator[tuple[str, str]]:
    for prefix, module in model.named_modules():
        own = [f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
        yield from combinations([name for name in own if name in names], 2)


def _together(samples: Samples, first: str, second: str) -> str:
    a, b = (samples.of(name).get(0) for name in (first, second))
    if a is None or b is None or samples.informative(first) != samples.informative(second):
        return ""
    if a.shape != b.shape:
        a, b = a.sum(-1, keepdim=True), b.sum(-1, keepdim=True)
    # Two elements a row at least, for a weight's row and its bias are one block.
    shape = (a.shape[-1], 2)
    cut = finest({0: a + b}, shape)
    return kind_and_label(cut.blocks, shape)[1] if cut else ""

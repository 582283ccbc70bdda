"""Finite rescaling: the test that every accepted block must pass.

Euler's identity looks at one point. A clipped activation such as ReLU6 is invariant near it and not far away, so all
accepted blocks are rescaled at once by powers of two, up and down, and the outputs must stay. If they do not, halving
finds which weights to reject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tangential.blocks import Blocks
from tangential.invariances.absorbers import Trace
from tangential.invariances.probe import Probe
from tangential.invariances.verdicts import Absorber

UNCHANGED = 1e-6
"""Relative difference of outputs that counts as none: 2^16 apart in scale, float64 stays below 1e-9."""
_UP, _DOWN = (1, 8), (-8, -1)
_MOST_RUNS = 200

Cuts = Mapping[str, Blocks]
Exponents = tuple[int, int]


class Rescaling:
    """Rescales weights of a probe and compares what comes out.

    Args:
        probe: The probe.
        seed: For the random states of its runs.

    Attributes:
        expected: The outputs with the weights as they are.
    """

    def __init__(self, probe: Probe, seed: int):
        self._probe, self._seed = probe, seed
        self._runs_left = _MOST_RUNS
        plain = Trace(probe.model)
        self.expected = self._outputs(plain)
        self._checksums = plain.checksums

    def confirm(self, cuts: Cuts) -> tuple[set[str], dict[str, list[Absorber]]]:
        """Rescale everything in `cuts`.

        Returns:
            The weights whose blocks are not invariant after all, and where the scales of the others are absorbed.
        """
        if not cuts:
            return set(), {}
        absorbed, fine = self._traced(cuts)
        wrong = set() if fine else self._refuted(list(cuts), cuts, _UP)
        wrong |= self._refuted([name for name in cuts if name not in wrong], cuts, _DOWN)
        if wrong:
            absorbed, _ = self._traced({name: blocks for name, blocks in cuts.items() if name not in wrong})
        return wrong, absorbed

    def _traced(self, cuts: Cuts) -> tuple[dict[str, list[Absorber]], bool]:
        trace = Trace(self._probe.model, {name: self._probe.parameters[name] for name in cuts}, self._checksums)
        return trace.absorbed, self._holds(cuts, _UP, trace)

    def _refuted(self, names: Sequence[str], cuts: Cuts, exponents: Exponents) -> set[str]:
        if not names or self._holds({name: cuts[name] for name in names}, exponents):
            return set()
        # Out of runs: what is not confirmed is not accepted.
        if len(names) == 1 or self._runs_left <= 0:
            return set(names)
        half = len(names) // 2
        return self._refuted(names[:half], cuts, exponents) | self._refuted(names[half:], cuts, exponents)

    def _holds(self, cuts: Cuts, exponents: Exponents, trace: Trace | None = None) -> bool:
        self._runs_left -= 1
        with self._probe.rescaled(_factors(self._probe, cuts, exponents)):
            return same_outputs(self.expected, self._outputs(trace))

    def _outputs(self, trace: Trace | None) -> list[Tensor]:
        if trace is None:
            return self._probe.outputs(self._seed)
        with trace.watching():
            return self._probe.outputs(self._seed, trace)


def _factors(probe: Probe, cuts: Cuts, exponents: Exponents) -> dict[str, Tensor]:
    """A power of two for every invariant block and 1 elsewhere, ready to be multiplied with the weights."""
    generator = torch.Generator("cpu").manual_seed(sum(exponents) % 97)
    return {name: _factor(probe.parameters[name], blocks, exponents, generator) for name, blocks in cuts.items()}


def _factor(weight: Tensor, blocks: Blocks, exponents: Exponents, generator: torch.Generator) -> Tensor:
    lengths, invariant = torch.tensor(blocks.runs(weight.shape), device="cpu").unbind(1)
    low, high = exponents
    drawn = torch.randint(low, high + 1, (len(lengths),), generator=generator, device="cpu").double()
    values = torch.where(invariant.bool(), drawn.exp2(), 1.0).repeat_interleave(lengths)
    return values.view([-1 if dim == blocks.dim else 1 for dim in range(weight.ndim)]).to(weight)


def same_outputs(expected: Sequence[Tensor], got: Sequence[Tensor]) -> bool:
    """Whether two lists of outputs agree up to float64's rounding."""
    pairs = zip(expected, got, strict=False)
    return len(expected) == len(got) and all(_same(before, after) for before, after in pairs)


def _same(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape or not bool(after.isfinite().all()):
        return False
    size = float(torch.linalg.vector_norm(before))
    return float(torch.linalg.vector_norm(before - after)) < UNCHANGED * (size or 1.0)

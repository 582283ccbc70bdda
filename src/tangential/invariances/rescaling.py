"""Finite rescaling: the test that every accepted block must pass.

Euler's identity looks at one point. A clipped activation such as ReLU6 is invariant near it and not far away, so all
accepted blocks are rescaled at once by powers of two, up and then down, and the outputs must stay. If they do not,
halving finds which weights fail alone. If none does, several fail together only: two linear layers before a clip that
one of them does not reach. Then a smallest such set is searched, and all its members are rejected, for if each were
invariant, so would they be together. This is repeated until the rest passes together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from zlib import crc32

import torch
from torch import Tensor

from tangential.blocks import Blocks
from tangential.invariances.absorbers import Trace
from tangential.invariances.epsilons import TINIEST
from tangential.invariances.float64 import Float64Mode
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
        held: Memory whose undifferentiated writes are left out, see `Float64Mode`.

    Attributes:
        expected: The outputs with the weights as they are.
    """

    def __init__(self, probe: Probe, seed: int, held: Collection[int] = ()):
        self._probe, self._seed, self._held = probe, seed, held
        self._runs_left = _MOST_RUNS
        self._plain = Trace(probe.model, held=held)
        self.expected = self._outputs(self._plain)

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
        weights = {name: self._probe.parameters[name] for name in cuts}
        trace = Trace(self._probe.model, weights, self._plain.checksums, held=self._held)
        return trace.absorbed, same_outputs(self.expected, self._run(cuts, _UP, trace))

    def _refuted(self, names: Sequence[str], cuts: Cuts, exponents: Exponents) -> set[str]:
        """The weights to reject so that the others can be rescaled together.

        A weight that passes with the others may still fail together with rejected ones: three layers before a clip of
        which any two reach it. So the rest is tried beside each set that all but failed, too.
        """
        wrong: set[str] = set()
        self._passing_together: list[list[str]] = []
        while found := self._some_refuted([name for name in names if name not in wrong], cuts, exponents):
            wrong |= found
        for passing in self._passing_together:
            rest = [name for name in names if name not in wrong]
            while rest and self._holds([*passing, *rest], cuts, exponents) is False:
                wrong |= self._conflict(passing, rest, cuts, exponents)
                rest = [name for name in names if name not in wrong]
        return wrong

    def _some_refuted(self, names: Sequence[str], cuts: Cuts, exponents: Exponents) -> set[str]:
        if not names or (outcome := self._holds(names, cuts, exponents)) is True:
            return set()
        # Out of runs: what is not confirmed is not accepted.
        if len(names) == 1 or self._runs_left <= 0:
            return set(names)
        half = len(names) // 2
        first, second = names[:half], names[half:]
        found = self._some_refuted(first, cuts, exponents) | self._some_refuted(second, cuts, exponents)
        # An overflow of many scales multiplied is no evidence against weights that pass in two parts.
        if found or outcome is None:
            return found
        conflict = self._conflict([], names, cuts, exponents)
        self._passing_together.append(sorted(conflict)[1:])
        return conflict

    def _conflict(self, kept: list[str], names: Sequence[str], cuts: Cuts, exponents: Exponents) -> set[str]:
        """A smallest set of `names` that fails together with `kept`, where `kept` alone passes (QuickXplain).

        Each member is variant: the others can be rescaled without it, and at that point it cannot.
        """
        if len(names) == 1 or self._runs_left <= 0:
            return set(names)
        half = len(names) // 2
        first, second = list(names[:half]), list(names[half:])
        if self._holds([*kept, *first], cuts, exponents) is not True:
            return self._conflict(kept, first, cuts, exponents)
        found = self._conflict([*kept, *first], second, cuts, exponents)
        if self._holds([*kept, *found], cuts, exponents) is not True:
            return found
        return found | self._conflict([*kept, *found], first, cuts, exponents)

    def _holds(self, names: Sequence[str], cuts: Cuts, exponents: Exponents) -> bool | None:
        """Whether the outputs stay when these weights are rescaled; None if numbers overflow."""
        self._runs_left -= 1
        found = self._run({name: cuts[name] for name in names}, exponents)
        if same_outputs(self.expected, found):
            return True
        return False if all(bool(tensor.isfinite().all()) for tensor in found) else None

    def _run(self, cuts: Cuts, exponents: Exponents, trace: Trace | None = None) -> list[Tensor]:
        with self._probe.rescaled(_factors(self._probe, cuts, exponents)):
            return self._outputs(trace)

    def _outputs(self, trace: Trace | None) -> list[Tensor]:
        if trace is None:
            return self._probe.outputs(self._seed, Float64Mode(TINIEST, self._held))
        with trace.watching():
            return self._probe.outputs(self._seed, trace)


def _factors(probe: Probe, cuts: Cuts, exponents: Exponents) -> dict[str, Tensor]:
    """A power of two for every invariant block and 1 elsewhere, ready to be multiplied with the weights.

    A weight's factors do not depend on which others are rescaled with it, so that parts of a set can be compared.
    """
    return {name: _factor(name, probe.parameters[name], blocks, exponents) for name, blocks in cuts.items()}


def _factor(name: str, weight: Tensor, blocks: Blocks, exponents: Exponents) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(crc32(name.encode()) + sum(exponents) % 97)
    lengths, invariant = torch.tensor(blocks.runs(weight.shape), device="cpu").unbind(1)
    low, high = exponents
    drawn = torch.randint(low, high + 1, (len(lengths),), generator=generator, device="cpu").double()
    if len(lengths) == 1 and high > 0:
        drawn.fill_(high)  # one block: as far as it goes
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

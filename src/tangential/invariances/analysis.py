"""The analysis: sample, judge by Euler's identity, confirm by rescaling, find reasons, measure with the real epsilons.

The order is that of certainty. (1) Samples: gradients at a few generic points, until each weight that is used at all
was used in `samples` of them. (2) Euler's identity gives each weight its finest invariant cut, or a verdict without
blocks (variant, dead, unused, frozen, inconclusive). It is a statement about a neighbourhood of the points. (3) A
finite rescaling of all cuts at once confirms it far from there, or halving finds which weights to reject. A cut into
unequal blocks that fails may have been chance among thousands of possible ones: it gets more samples, once. (4)
Weights without blocks are compared with their module's other parameters (joint) and with what an epsilon out of reach
would leave (near). (5) Accepted cuts are measured once more with the model's own epsilons.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite

from torch import Tensor, nn

from tangential.blocks import Blocks
from tangential.invariances.euler import Samples
from tangential.invariances.example_call import ExampleCall
from tangential.invariances.joint import partners
from tangential.invariances.partition import finest
from tangential.invariances.probe import Probe, StateChanged
from tangential.invariances.rescaling import Rescaling, same_outputs
from tangential.invariances.residuals import likely_causes, near_residual, not_by_an_epsilon, real_residuals
from tangential.invariances.verdicts import Absorber, Verdict, kind_and_label

Verdicts = dict[str, Verdict]
Cuts = dict[str, Blocks]
Absorbed = dict[str, list[Absorber]]

_MOST = 3
"""Times the wanted number of samples that are taken for weights which some samples miss."""
_RANDOM = (
    "find_invariances: the model returns something else each time, although every random state is the same; "
    "make it deterministic (a generator of its own? a counter or cache that is not a buffer?)"
)
_ROUNDING = (
    "gradients of whole weights are rounding with this batch, as before a batch normalisation over two values; "
    "use a larger batch or larger inputs"
)


def analyse(model: nn.Module, call: ExampleCall, samples: int, seed: int) -> Verdicts:
    """The verdict on every parameter of `model`, in its order."""
    changing: frozenset[str] = frozenset()
    while True:
        probe = Probe(model, call, seed, changing)
        try:
            return _verdicts(_Survey(probe), samples)
        except StateChanged as error:
            changing |= error.names
        finally:
            probe.close()


def _verdicts(survey: _Survey, samples: int) -> Verdicts:
    survey.take(samples)
    verdicts = {name: _judge(name, weight, survey.seen) for name, weight in survey.probe.parameters.items()}
    verdicts = _confirmed(verdicts, survey, samples)
    verdicts = _with_joint(_without_doubtful_dead(verdicts), survey)
    verdicts = _with_near(verdicts, survey)
    return _with_real_residuals(verdicts, survey)


@dataclass
class _Survey:
    """A probe and what its samples have shown so far."""

    probe: Probe
    seen: Samples = field(default_factory=Samples)
    taken: int = 0
    outputs: list[Tensor] = field(default_factory=list)

    def take(self, wanted: int) -> None:
        """Sample until every weight that has a gradient at all had one in `wanted` samples, within reason."""
        while self.taken < wanted or (self.seen.short(wanted) and self.taken < _MOST * wanted):
            if self.taken:
                self.probe.jitter()
            self.outputs = self.probe.gradients(self.taken, partial(self.seen.read, self.taken))
            self.taken += 1

    @property
    def last(self) -> int:
        """The seed of the last sample, whose point the probe is still at."""
        return self.taken - 1

    def confirm(self, cuts: Cuts) -> tuple[set[str], Absorbed]:
        """The weights of these cuts that do not survive a rescaling, and where the scales of the others go.

        A teacher that follows the weights within a pass follows their scales, too, although no gradient passes through
        it; in a model that has one, what fails is tried again with the teacher held.

        Raises:
            ValueError: The same seed gives other outputs.
        """
        refuted: set[str] = set()
        absorbed: Absorbed = {}
        for seed, part in self.by_seed(cuts).items():
            rescaling = Rescaling(self.probe, seed)
            if seed == self.last and not self._repeats(rescaling.expected):
                raise ValueError(_RANDOM)
            wrong, where = rescaling.confirm(part)
            if wrong and self.probe.follows_weights:
                held = Rescaling(self.probe, seed, self.probe.held_state())
                wrong, where_held = held.confirm({name: part[name] for name in part if name in wrong})
                where |= where_held
            refuted |= wrong
            absorbed |= where
        return refuted, absorbed

    def _repeats(self, outputs: list[Tensor]) -> bool:
        """Whether these are the last sample's; they came with smaller epsilons, which matters where a divisor is 0."""
        return same_outputs(self.outputs, outputs) or same_outputs(self.outputs, self.probe.outputs(self.last))

    def by_seed(self, cuts: Cuts) -> dict[int, Cuts]:
        """The cuts by a seed whose run uses their weights: the last one, but for those that a random route left out."""
        parts: dict[int, Cuts] = {self.last: {}}
        for name, blocks in cuts.items():
            parts.setdefault(max(self.seen.informative(name)), {})[name] = blocks
        return parts


def _judge(name: str, weight: Tensor, seen: Samples) -> Verdict:
    """What Euler's identity says."""
    verdict = Verdict(name, tuple(weight.shape), "none")
    if not weight.requires_grad:
        return replace(verdict, kind="frozen")
    if not seen.reached(name):
        return replace(verdict, kind="unused")
    strength = seen.strength(name)
    if not isfinite(strength):
        return replace(verdict, kind="inconclusive", reason="its gradient is not finite")
    if strength == 0:
        return replace(verdict, kind="inconclusive", reason="no gradient reaches it with this batch")
    if not seen.informative(name):
        return _judge_rounding(verdict)
    cut = finest(seen.of(name), verdict.shape)
    if cut is None:
        return verdict
    kind, _ = kind_and_label(cut.blocks, verdict.shape)
    return replace(verdict, kind=kind, blocks=cut.blocks, residual=cut.residual)


def _judge_rounding(verdict: Verdict) -> Verdict:
    # A bias before a normalisation is dead, and so are rows of one element, of which only the sign matters.
    if sum(size > 1 for size in verdict.shape) <= 1:
        return replace(verdict, kind="dead")
    return replace(verdict, kind="inconclusive", reason=_ROUNDING)


def _cuts(verdicts: Verdicts) -> Cuts:
    return {name: verdict.blocks for name, verdict in verdicts.items() if verdict.blocks is not None}


def _confirmed(verdicts: Verdicts, survey: _Survey, samples: int) -> Verdicts:
    """Reject what a finite rescaling refutes; uneven cuts, which chance can find in a few samples, get more of them."""
    cuts = _cuts(verdicts)
    refuted, absorbed = survey.confirm(cuts)
    if uneven := {name for name in refuted if cuts[name].segments}:
        survey.take(survey.taken + samples)
        again = {name: _judge(name, survey.probe.parameters[name], survey.seen) for name in uneven}
        verdicts = {**verdicts, **again}
        still, absorbed = survey.confirm({n: b for n, b in _cuts(verdicts).items() if n not in refuted - uneven})
        refuted = (refuted - uneven) | still
    settled = {name: _rejected(v) if name in refuted else v for name, v in verdicts.items()}
    return {name: replace(v, absorbers=tuple(absorbed.get(name, ()))) for name, v in settled.items()}


def _rejected(verdict: Verdict) -> Verdict:
    reason = f"{verdict.label} for small changes of scale, but large ones change the outputs"
    return replace(verdict, kind="none", blocks=None, reason=reason)


def _without_doubtful_dead(verdicts: Verdicts) -> Verdicts:
    """Where the gradient of a whole matrix is rounding, that of a vector says nothing either."""
    if not any(verdict.reason == _ROUNDING for verdict in verdicts.values()):
        return verdicts
    return {
        n: replace(v, kind="inconclusive", reason=_ROUNDING) if v.kind == "dead" else v for n, v in verdicts.items()
    }


def _with_joint(verdicts: Verdicts, survey: _Survey) -> Verdicts:
    variant = [name for name, verdict in verdicts.items() if verdict.kind == "none" and not verdict.reason]
    found = partners(survey.probe.model, variant, survey.seen)
    return {n: replace(v, kind="joint", reason=found[n]) if n in found else v for n, v in verdicts.items()}


def _with_near(verdicts: Verdicts, survey: _Survey) -> Verdicts:
    residuals = {
        name: residual
        for name, verdict in verdicts.items()
        if verdict.kind == "none"
        and not verdict.reason
        and (residual := near_residual(survey.seen.of(name), verdict.shape)) is not None
    }
    causes = likely_causes(survey.probe, residuals, survey.seen, survey.last)
    near = {n: replace(verdicts[n], kind="near", residual=residuals[n], reason=causes[n]) for n in causes}
    return {**verdicts, **near}


def _with_real_residuals(verdicts: Verdicts, survey: _Survey) -> Verdicts:
    known = dict(verdicts)
    for seed, part in survey.by_seed(_cuts(verdicts)).items():
        if not part:
            continue
        real = real_residuals(survey.probe, part, seed)
        for name, residual in real.items():
            known[name] = replace(known[name], residual_eps=residual.largest, doubtful=residual.doubtful)
        for name, reason in not_by_an_epsilon(survey.probe, part, seed, real).items():
            bare = replace(known[name], residual=real[name].largest, residual_eps=None, doubtful=0, absorbers=())
            known[name] = replace(bare, kind="near", blocks=None, reason=reason)
    return known

"""Whether a projected optimizer is for this model: what it would project, what that changes, what stands against it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from torch import nn

from tangential.experiments.viewers.baseline import Baseline
from tangential.experiments.viewers.cosine_test import CosineRecord, cosine_records
from tangential.experiments.viewers.model_spec import ModelAndBatch
from tangential.experiments.viewers.norm_growth import Growth, Loss, default_loss, measure_growth
from tangential.invariances import Invariances, find_invariances
from tangential.invariances.verdicts import Verdict

TEST_STEPS = 10
"""Steps of the paper's test; a random gradient passes it at about 8 % of them."""
_LITTLE = 0.1
_MOST = 0.5


@dataclass(frozen=True)
class Share:
    """Weights of one label.

    Attributes:
        label: As in the table of `find_invariances`: "channel", "groups of 16", "none".
        count: How many parameters.
        elements: Their elements together.
        projected: Whether an optimizer projects them.
    """

    label: str
    count: int
    elements: int
    projected: bool


@dataclass(frozen=True)
class EpsilonEffect:
    """A normalisation whose epsilon is not small against the variance it guards.

    Attributes:
        where: The module, with its class and its epsilon where it has the attribute.
        weight: The weight before it.
        blocks: How many blocks of the weight it keeps from being invariant.
        of: Out of how many.
    """

    where: str
    weight: str
    blocks: int
    of: int


@dataclass(frozen=True)
class Diagnosis:
    """All that `tangential doctor` prints.

    Attributes:
        subject: The model, its batch, and the code that makes them.
        found: Its scale-invariant weights.
        baseline: The user's optimizer.
        records: Decisions of the paper's test on each matrix.
        growth: Norms and steps over real training steps, if they were taken.
    """

    subject: ModelAndBatch
    found: Invariances
    baseline: Baseline
    records: Sequence[CosineRecord] = ()
    growth: Growth | None = None

    @property
    def trainable(self) -> list[Verdict]:
        """The parameters that train."""
        return [verdict for verdict in map(self.found.verdict, self.found) if verdict.kind != "frozen"]

    @property
    def share(self) -> float:
        """The part of all trainable elements that is projected."""
        total = sum(prod(verdict.shape) for verdict in self.trainable)
        return sum(each.elements for each in self.shares if each.projected) / total if total else 0.0

    @property
    def verdict(self) -> Literal["nothing", "little", "some", "most"]:
        """How much of the model would be projected."""
        if not any(each.projected for each in self.shares):
            return "nothing"
        return "little" if self.share < _LITTLE else "some" if self.share < _MOST else "most"

    @property
    def shares(self) -> list[Share]:
        """Parameters by label, the projected ones first, then by size; `rest` is what partial ones have besides."""
        counts: Counter[tuple[bool, str]] = Counter()
        elements: Counter[tuple[bool, str]] = Counter()
        for each in self.trainable:
            invariant = _invariant_elements(each)
            label = each.label if each.blocks is not None or len(each.shape) > 1 else "vectors"
            parts = {(True, label): invariant, (False, "rest" if invariant else label): prod(each.shape) - invariant}
            for key, size in parts.items():
                if size or not (key[0] or invariant):
                    counts[key] += 1
                    elements[key] += size
        order = sorted(counts, key=lambda key: (not key[0], -elements[key]))
        return [Share(label, counts[key], elements[key], key[0]) for key in order for label in [key[1]]]

    @property
    def biased(self) -> list[tuple[str, str]]:
        """Matrices that are invariant jointly with a bias only, each with that bias."""
        pairs = [(v.name, v.reason.partition(" with ")[2].partition(" (")[0]) for v in self.of_kind("joint")]
        return [pair for pair in pairs if pair[1].endswith("bias")]

    @property
    def epsilons(self) -> list[EpsilonEffect]:
        """Where an epsilon keeps blocks from being invariant, at the weights as they are."""
        return [
            EpsilonEffect(_epsilon(self.subject.model, v), v.name, v.doubtful, v.block_count)
            for v in self.trainable
            if v.doubtful
        ]

    def of_kind(self, kind: str) -> list[Verdict]:
        """The matrices of a kind."""
        return [verdict for verdict in self.trainable if verdict.kind == kind and len(verdict.shape) > 1]


def diagnose(
    subject: ModelAndBatch,
    baseline: Baseline,
    *,
    batches: Iterable[Any] | None = None,
    steps: int = 0,
    loss: Loss = default_loss,
) -> Diagnosis:
    """Analyse a model, and run the paper's test on it for `TEST_STEPS` steps, which changes its weights.

    Args:
        subject: The model and its batch.
        baseline: What the user trains it with.
        batches: Real data to watch steps on.
        steps: How many of them; only if something is invariant.
        loss: Of the model and one of these batches.

    Raises:
        FloatingPointError: The loss of a real step is not finite.
        ValueError: The model cannot be analysed (see `find_invariances`), or the data do not fit it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "find_invariances", UserWarning)  # the diagnosis has a section for each
        found = find_invariances(subject.model, *subject.args, **subject.kwargs)
    growth = None
    if batches is not None and any(blocks is not None for blocks in found.values()):
        growth = measure_growth(subject.model, found, baseline, batches, steps, loss)
    return Diagnosis(subject, found, baseline, cosine_records(subject, found, TEST_STEPS), growth)


def _invariant_elements(verdict: Verdict) -> int:
    """How many of a parameter's elements lie in invariant blocks: two thirds of a fused QKV matrix with QK-norm."""
    if verdict.blocks is None:
        return 0
    rows = sum(length for length, invariant in verdict.blocks.runs(verdict.shape) if invariant)
    return rows * prod(verdict.shape) // verdict.shape[verdict.blocks.dim]


def _epsilon(model: nn.Module, verdict: Verdict) -> str:
    if not verdict.absorbers:
        return "a normalisation"
    absorber = verdict.absorbers[0]
    try:
        eps = getattr(model.get_submodule(absorber.module), "eps", None)
    except AttributeError:  # a wrapper around the model changed its names
        eps = None
    of = f"{absorber.module or 'the model'} ({absorber.kind}"
    return of + (f", eps={eps:g})" if isinstance(eps, float) else ")")

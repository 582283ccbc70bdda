"""Lemmas of arXiv 2006.08217: a function that predicts and a check that measures, for each statement.

`laws` holds the predictions. `norms`, `adam`, `geometry`, `comparison` and `equilibrium` hold the checks: each trains
the weights of a scale-invariant loss with a real optimizer, in float64, and gives the difference of the two. `checks`
evaluates them all; docs/theory.md shows the result. Statements about whole training runs belong to the experiments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tangential.paper.theory import adam, comparison, equilibrium, geometry, norms
from tangential.paper.theory.check import Check
from tangential.paper.theory.losses import Loss, conv_net, linear_model

__all__ = ["LAWS", "Check", "checks"]

LAWS: tuple[Callable[[Loss], Check], ...] = (
    geometry.orthogonality,
    geometry.scaling,
    geometry.step_length,
    norms.lemma_2_1,
    norms.lemma_2_2,
    norms.nesterov,
    norms.decoupled_decay,
    norms.coupled_decay,
    norms.projected_sgdp,
    adam.projected,
    adam.identity,
    adam.lemma_2_2_differs,
    geometry.proposition_3_1,
    geometry.proposition_3_1_adamp,
)
"""Statements about any scale-invariant loss."""


def checks() -> Iterator[Check]:
    """Evaluate every statement, each on a linear model and on a convolutional net.

    Yields:
        The checks, one by one as they are done; about ten seconds in all.

    Examples:
        >>> next(checks()).verdict
        'holds'
    """
    for law in LAWS:
        for loss in (linear_model, conv_net):
            yield law(loss())
    yield from map(comparison.corollary_2_3, comparison.BETAS)
    yield from equilibrium.equilibria()

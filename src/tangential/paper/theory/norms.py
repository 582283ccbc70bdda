"""Growth of squared norms: Lemmas 2.1 and 2.2, and the same identity for every update of the SGD family.

Each check trains the weights of a loss with a real optimizer, computes the updates from the gradients it met, predicts
the norm of every block after every step from them and `|w_0|`, and compares the growth. They assume no more than that
the loss is scale-invariant, which `geometry.orthogonality` and `geometry.scaling` check.

Every function takes the optimizer as an argument, to be replaced by one that has the same settings; that is also how
the tests break the laws.
"""

from __future__ import annotations

from torch import Tensor

from tangential.paper.theory import laws, settings
from tangential.paper.theory.check import Check, largest_error
from tangential.paper.theory.losses import Loss
from tangential.paper.theory.settings import BETA, DECAY, LR, STEPS, WD_RATIO
from tangential.paper.theory.trajectories import Make, Trajectory, follow

OF_INVARIANCE = f"growth of |w|² in {STEPS} steps, error of every step and block; assumes scale invariance alone"
OF_NOTHING = f"growth of |w|² in {STEPS} steps, error of every step and block; assumes nothing"


def lemma_2_1(loss: Loss, make: Make = settings.GRADIENT_DESCENT) -> Check:
    """Gradient descent never shrinks a weight (section 2, Lemma 2.1).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.GRADIENT_DESCENT`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> lemma_2_1(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.plain, steps=STEPS)
    predicted = laws.gradient_descent(run.squared_norms[0], run.dots("u", "u"), lr=LR)
    return growth("Lemma 2.1: gradient descent", "|w'|² = |w|² + η²|g|²", loss, run, predicted)


def lemma_2_2(loss: Loss, make: Make = settings.HEAVY_BALL) -> Check:
    """Momentum adds the past updates once more (section 2, Lemma 2.2).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.HEAVY_BALL`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> lemma_2_2(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.heavy_ball, steps=STEPS)
    predicted = laws.momentum(run.squared_norms[0], run.dots("u", "u"), lr=LR, beta=BETA)
    formula = "|w'|² = |w|² + η²|p|² + 2η² Σₖ βᵗ⁻ᵏ|pₖ|²"
    return growth("Lemma 2.2: momentum", formula, loss, run, predicted)


def nesterov(loss: Loss, make: Make = settings.NESTEROV) -> Check:
    """The same for Nesterov momentum as torch has it (derived here).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.NESTEROV`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> nesterov(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.nesterov, steps=STEPS)
    predicted = laws.nesterov(run.squared_norms[0], run.dots("u", "u"), run.dots("u", "m"), lr=LR, beta=BETA)
    formula = "|w'|² = |w|² + η²|d|² + 2η² Σₖ βᵗ⁻ᵏ⁺¹ dₖ·bₖ"
    return growth("Nesterov momentum (derived)", formula, loss, run, predicted)


def decoupled_decay(loss: Loss, make: Make = settings.DECOUPLED) -> Check:
    """The same with decoupled decay, on SGDP with its projection switched off (derived here).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.DECOUPLED`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> decoupled_decay(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.heavy_ball, steps=STEPS)
    keep = 1 - LR * DECAY / (1 - BETA)
    predicted = laws.decoupled_decay(run.squared_norms[0], run.dots("u", "u"), lr=LR, beta=BETA, keep=keep)
    formula = "|w'|² = ρ²|w|² + η²|p|² + 2η² Σₖ (βρ)ᵗ⁻ᵏ|pₖ|²"
    return growth("Decoupled decay (derived)", formula, loss, run, predicted)


def coupled_decay(loss: Loss, make: Make = settings.COUPLED) -> Check:
    """The same with L2 in the gradient (derived here).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.COUPLED`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> coupled_decay(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.heavy_ball, steps=STEPS, decay=DECAY)
    predicted = laws.coupled_decay(run.squared_norms[0], run.dots("u", "u"), lr=LR, beta=BETA, decay=DECAY)
    formula = "|w'|² = |w|² − 2ηc + η²|p|², c = βc₋ − ηβ|p₋|² + λ|w|²"
    return growth("Coupled L2 decay (derived)", formula, loss, run, predicted)


def projected_sgdp(loss: Loss, make: Make = settings.PROJECTED_SGDP) -> Check:
    """Projection takes the cross terms away: SGDP grows as gradient descent does (section 3).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.PROJECTED_SGDP`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> projected_sgdp(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.heavy_ball, steps=STEPS)
    keep = 1 - LR * WD_RATIO * DECAY / (1 - BETA)
    return projected_growth(loss, run, lr=LR, keep=keep)


def projected_growth(loss: Loss, run: Trajectory, *, lr: float, keep: float) -> Check:
    """Compare a run of a projected optimizer with its law, which is the same for any update.

    Args:
        loss: What was trained.
        run: Its trajectory.
        lr: Learning rate.
        keep: What decay leaves of a weight per step.

    Returns:
        The check.
    """
    predicted = laws.projected(run.squared_norms[0], run.tangential(), lr=lr, keep=keep)
    return growth("Projected update", "|w'|² = ρ²|w|² + η²|Π(u)|²", loss, run, predicted, OF_NOTHING)


def growth(law: str, formula: str, loss: Loss, run: Trajectory, predicted: Tensor, note: str = OF_INVARIANCE) -> Check:
    """Compare the growth `|w_t|^2 - |w_0|^2`: an error could hide behind the norm that was there before.

    Args:
        law: See `Check`.
        formula: See `Check`.
        loss: What was trained.
        run: Its trajectory.
        predicted: `|w_t|^2`, `(steps + 1, blocks)`.
        note: See `Check`.

    Returns:
        The check.
    """
    norms = run.squared_norms
    return Check(
        law=law,
        formula=formula,
        subject=f"{loss.name}, {run.optimizer}",
        predicted=_gain(predicted),
        measured=_gain(norms),
        error=largest_error(predicted - norms[0], norms - norms[0]),
        note=note,
    )


def _gain(norms: Tensor) -> float:
    """What all blocks together gained in squared norm."""
    return float((norms[-1] - norms[0]).sum())

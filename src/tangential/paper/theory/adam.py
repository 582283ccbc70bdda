"""Norm growth of Adam and AdamP: the identity that holds, the lemma that does not, and the projected update."""

from __future__ import annotations

from dataclasses import replace

from tangential.paper.theory import laws, settings
from tangential.paper.theory.check import Check
from tangential.paper.theory.losses import Loss
from tangential.paper.theory.norms import growth, projected_growth
from tangential.paper.theory.settings import ADAM_LR, DECAY, STEPS, WD_RATIO
from tangential.paper.theory.trajectories import Make, follow


def projected(loss: Loss, make: Make = settings.PROJECTED_ADAMP) -> Check:
    """AdamP grows by its tangential steps alone, as any projected update does (section 3).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.PROJECTED_ADAMP`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> projected(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.adam, steps=STEPS)
    return projected_growth(loss, run, lr=ADAM_LR, keep=1 - ADAM_LR * WD_RATIO * DECAY)


def identity(loss: Loss, make: Make = settings.ADAM) -> Check:
    """Adam follows the identity with the radial term `w.u` left in it (derived here).

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.ADAM`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> identity(linear_model()).holds
        True
    """
    run = follow(loss, make, settings.adam, steps=STEPS)
    wu = run.dots("w", "u")
    predicted = laws.any_update(run.squared_norms[0], run.dots("u", "u"), wu, lr=ADAM_LR)
    outward = float((wu < 0).double().mean())
    note = f"assumes nothing; w·u has no fixed sign: {outward:.0%} of the updates point outward"
    return growth("Adam, with its radial term (derived)", "|w'|² = |w|² − 2ηw·u + η²|u|²", loss, run, predicted, note)


def lemma_2_2_differs(loss: Loss, make: Make = settings.ADAM_WITHOUT_MOMENTUM) -> Check:
    """Adam does not follow Lemma 2.2, not even without momentum (derived here).

    With `beta1 = 0` the lemma would be that of gradient descent. But Adam divides every element by a number of its own,
    which turns the gradient out of the tangent space.

    Args:
        loss: What is trained.
        make: Builds the optimizer, with the settings of `settings.ADAM_WITHOUT_MOMENTUM`.

    Returns:
        The check, which holds if prediction and measurement differ by more than 1 %.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> lemma_2_2_differs(linear_model()).verdict
        'differs, as stated'
    """
    run = follow(loss, make, settings.adam_without_momentum, steps=STEPS)
    predicted = laws.gradient_descent(run.squared_norms[0], run.dots("u", "u"), lr=ADAM_LR)
    note = "the preconditioner turns the gradient, so w·u is not zero"
    check = growth("Lemma 2.2 is not Adam's (derived)", "|w'|² ≠ |w|² + η²|u|² at β₁ = 0", loss, run, predicted, note)
    return replace(check, tolerance=0.01, apart=True)

"""Geometry of scale-invariant weights: orthogonal gradients, effective steps, and the geodesic of projected steps."""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from tangential.blocks import Blocks
from tangential.optimizers import SGDP, AdamP
from tangential.paper.theory import laws
from tangential.paper.theory.check import Check, largest_error
from tangential.paper.theory.losses import Loss
from tangential.paper.theory.settings import ADAM_LR, BETA, GRADIENT_DESCENT, LR, STEPS, TINY, plain
from tangential.paper.theory.trajectories import Make, Rows, dots, follow, gradient, rows
from tangential.telemetry import directions, effective_step

UNDECAYED_SGDP = partial(SGDP, lr=LR, momentum=BETA, eps=TINY, blocks=Blocks())
UNDECAYED_ADAMP = partial(AdamP, lr=ADAM_LR, eps=TINY, blocks=Blocks())
SCALE = 3.0


def orthogonality(loss: Loss) -> Check:
    """The gradient has no radial part: `w.g = 0` (section 2).

    Args:
        loss: What is trained, by gradient descent.

    Returns:
        The check; its error is the largest `|cos(w, g)|`.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> orthogonality(linear_model()).holds
        True
    """
    run = follow(loss, GRADIENT_DESCENT, plain, steps=STEPS)
    lengths = (run.squared_norms[:-1] * run.dots("g", "g")).sqrt()
    cosine = float((run.dots("w", "g").abs() / lengths).max())
    return Check(
        law="Scale invariance: no radial gradient",
        formula="w·∇f(w) = 0",
        subject=f"{loss.name}, {run.optimizer}",
        predicted=0.0,
        measured=cosine,
        error=cosine,
        note="the number is the largest |cos(w, g)| of any step and block",
    )


def scaling(loss: Loss) -> Check:
    """A longer weight has a smaller gradient: `grad f(c w) = grad f(w) / c` (section 2).

    Args:
        loss: Whose gradients; its weights are multiplied by `SCALE`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> scaling(linear_model()).holds
        True
    """
    before = _gradients(loss)
    with torch.no_grad():
        for w in loss.weights:
            w.mul_(SCALE)
    after = _gradients(loss)
    gaps = [(a * SCALE - b).norm() / b.norm() for a, b in zip(after, before, strict=True)]
    return Check(
        law="Scale invariance: gradient and length",
        formula=f"∇f(cw) = ∇f(w)/c, c = {SCALE:g}",
        subject=loss.name,
        predicted=_length(before) / SCALE,
        measured=_length(after),
        error=float(torch.stack(gaps).max()),
        note="compares the gradients as vectors, the numbers are their lengths",
    )


def step_length(loss: Loss) -> Check:
    """The effective step of an orthogonal update depends on `lr |g| / |w|` alone (section 2).

    Args:
        loss: What is trained, by gradient descent.

    Returns:
        The check of `telemetry.effective_step`.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> step_length(linear_model()).holds
        True
    """
    run = follow(loss, GRADIENT_DESCENT, plain, steps=STEPS)
    ratio = LR * (run.dots("u", "u") / run.squared_norms[:-1]).sqrt()
    predicted = laws.orthogonal_step(ratio).mean(1, keepdim=True)
    units = [directions([row for weight in w for row in weight]) for w in run.w]
    measured = torch.stack([effective_step(old, new) for old, new in pairwise(units)])[:, None]
    return Check(
        law="Effective step (section 2, exact form)",
        formula="|Δŵ| = 2 sin(θ/2), tan θ = η|g|/|w|",
        subject=f"{loss.name}, {run.optimizer}",
        predicted=float(predicted.mean()),
        measured=float(measured.mean()),
        error=largest_error(predicted, measured),
        note="the update is orthogonal to w, as that of gradient descent is",
    )


def proposition_3_1(loss: Loss, make: Make = UNDECAYED_SGDP) -> Check:
    """The projected step turns a weight along the geodesic of the plain one (section 3, Proposition 3.1).

    From the same state, one copy of the optimizer takes the plain step to `o` and one the projected step to `p`. If `p`
    is on the great circle through `w` and `o`, the angles add up: `(w, p) = (w, o) + (o, p)` where the update points
    outward, and `(w, o) - (o, p)` where it points inward. The left side is predicted from the plain step alone: its
    tangential part is `|w| tan` long.

    Args:
        loss: What is trained.
        make: Builds the projecting optimizer; its plain twin has `blocks=None`.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> proposition_3_1(linear_model()).holds
        True
    """
    optimizer = make(loss.weights)
    predicted, measured, outward = [], [], []
    for step in range(STEPS):
        gradient(loss, step)
        w = rows(loss.weights)
        o, p = _twin(optimizer, plain=True), _twin(optimizer, plain=False)
        change = [after - before for after, before in zip(o, w, strict=True)]
        ww, radial, whole = dots(w, w), dots(w, change), dots(change, change)
        predicted.append(((whole - radial**2 / ww) / ww).sqrt().atan())
        measured.append(angles(w, o) + radial.sign() * angles(o, p))
        outward.append(radial >= -1e-12 * (ww * whole).sqrt())  # momentum's first update is tangential
        optimizer.step()
    share = float(torch.stack(outward).double().mean())
    return Check(
        law="Proposition 3.1: same geodesic",
        formula="∠(w, wᵖ) = ∠(w, wᵒ) ± ∠(wᵒ, wᵖ)",
        subject=f"{loss.name}, {type(optimizer).__name__}",
        predicted=float(torch.stack(predicted).mean()),
        measured=float(torch.stack(measured).mean()),
        error=largest_error(torch.stack(predicted), torch.stack(measured)),
        note=f"assumes nothing of the update; {share:.0%} of them point outward, and then it turns further",
    )


def proposition_3_1_adamp(loss: Loss) -> Check:
    """The same for AdamP, whose updates point outward and inward.

    Args:
        loss: What is trained.

    Returns:
        The check.

    Examples:
        >>> from tangential.paper.theory.losses import linear_model
        >>> proposition_3_1_adamp(linear_model()).holds
        True
    """
    return proposition_3_1(loss, UNDECAYED_ADAMP)


def angles(a: Rows, b: Rows) -> Tensor:
    """The angle between matching rows, in radians, exact for small ones too. `(blocks,)`.

    Args:
        a: Weights.
        b: The same shapes.

    Returns:
        One angle per row.

    Examples:
        >>> angles([torch.tensor([[1.0, 0.0]])], [torch.tensor([[0.0, 2.0]])])
        tensor([1.5708])
    """
    pairs = zip(a, b, strict=True)
    return torch.cat([2 * ((_unit(x) - _unit(y)).norm(dim=1) / 2).asin() for x, y in pairs])


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def _twin(optimizer: torch.optim.Optimizer, *, plain: bool) -> Rows:
    """Weights after one step of a copy; the optimizer itself stays where it is."""
    twin = copy.deepcopy(optimizer)
    weights = _parameters(twin)
    for copied, own in zip(weights, _parameters(optimizer), strict=True):
        copied.grad = own.grad  # which copying a parameter leaves behind
    for group in twin.param_groups if plain else []:
        group["blocks"] = None
    twin.step()
    return rows(weights)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [w for group in optimizer.param_groups for w in group["params"]]


def _gradients(loss: Loss) -> list[Tensor]:
    """The first step's gradient of every row of every weight."""
    gradient(loss, 0)
    return [row for w in rows([w.grad for w in loss.weights if w.grad is not None]) for row in w]


def _length(vectors: list[Tensor]) -> float:
    return float(torch.cat(vectors).norm())

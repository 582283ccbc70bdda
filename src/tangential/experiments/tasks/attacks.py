"""PGD, projected gradient descent on the images (Madry et al., 2018), in an L-infinity or L2 ball.

Images `(batch, channels, height, width)` from 0 to 1 are moved along the gradient of their own loss, a step at a time,
and projected after each step into the ball around the clean image and into [0, 1]. The loss is summed over the batch,
so that an image's gradient does not depend on the batch size or on the other images; that, and evaluation mode, keep
each image's attack independent of the others. Nothing of the model changes: no gradient is accumulated in its
parameters, no BatchNorm statistic is updated, and every module's mode is restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tangential.experiments.settings.bounds import check_at_least

NORMS = ("linf", "l2", "l2-sign")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Settings of PGD.

    Args:
        norm: Norm of the ball around the image: `"linf"` (steps along the sign of the gradient), `"l2"`
            (steps along the gradient, of length `step` per image), or `"l2-sign"`: sign steps in the L2 ball, which is
            what the code that the paper links to calls L2.
        radius: Of the ball, for images from 0 to 1.
        step: Length of a step, in the norm of its direction.
        steps: Number of steps.
        random_start: Whether to start at a random point of the ball instead of at the image.

    Raises:
        ValueError: An unknown norm, or a negative radius, step or number of steps.
    """

    norm: str = "linf"
    radius: float = 4 / 255
    step: float = 2 / 255
    steps: int = 10
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r}: must be one of {', '.join(NORMS)}")
        check_at_least(0, radius=self.radius, step=self.step, steps=self.steps)


def attacked(
    model: nn.Module, images: Tensor, classes: Tensor, attack: Attack, *, generator: torch.Generator | None = None
) -> Tensor:
    """Adversarial examples: images in the ball around the given ones at which the model's loss is higher.

    The model is evaluated in evaluation mode, without the wrappers of data parallelism and mixed precision: the attack
    does not synchronise processes, and runs in the images' precision.

    Args:
        model: From images `(batch, channels, height, width)` within 0 to 1 to logits; it normalises by itself.
        images: The clean images; not changed in place.
        classes: Their classes, `(batch,)`.
        attack: Settings.
        generator: Of the random start; torch's global one if not given.

    Returns:
        Images within the ball around the given ones and within 0 to 1.

    Examples:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> images = torch.full((3, 1, 2, 2), 0.5)
        >>> changed = attacked(model, images, torch.tensor([0, 1, 0]), Attack(radius=0.1, step=0.1, steps=2))
        >>> round(float((changed - images).abs().max()), 4)
        0.1
    """
    net = _unwrapped(model)
    with _evaluation_mode(net), torch.inference_mode(False), torch.enable_grad():
        clean, classes = images.detach().clone(), classes.clone()
        changed = _within(_random_start(clean, attack, generator) if attack.random_start else clean, clean, attack)
        for _ in range(attack.steps):
            changed.requires_grad_()
            loss = cross_entropy(net(changed), classes, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, changed)
            changed = _within(changed.detach() + attack.step * _direction(gradient, attack.norm), clean, attack)
    return changed.detach()


def _direction(gradient: Tensor, norm: str) -> Tensor:
    if norm != "l2":
        return gradient.sign()
    return gradient / lengths(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def _within(changed: Tensor, clean: Tensor, attack: Attack) -> Tensor:
    """Projection into the ball, then into [0, 1], which moves no image farther from the clean one."""
    delta = changed - clean
    if attack.norm == "linf":
        delta = delta.clamp(-attack.radius, attack.radius)
    else:
        delta = delta * (attack.radius / lengths(delta).clamp_min(attack.radius or 1.0))
    return (clean + delta).clamp(0, 1)


def _random_start(clean: Tensor, attack: Attack, generator: torch.Generator | None) -> Tensor:
    """A uniformly random point of the ball; for `l2-sign` of the cube, as in the published code."""
    # Drawn on the CPU: its generator is part of every checkpoint, so that a resumed run draws the same on any device.
    if attack.norm == "l2":
        # A uniform direction, and a radius r with P(r < x) = x^d, as volume grows in d dimensions.
        direction = torch.randn(clean.shape, generator=generator)
        radius = torch.rand(len(clean), generator=generator) ** (1 / clean[0].numel())
        delta = direction / lengths(direction) * radius.reshape(-1, *[1] * (clean.ndim - 1))
    else:
        delta = 2 * torch.rand(clean.shape, generator=generator) - 1
    return clean + attack.radius * delta.to(clean)


def lengths(images: Tensor) -> Tensor:
    """L2 norm of each image, `(batch, 1, 1, 1)`."""
    return images.flatten(1).norm(dim=1).reshape(-1, *[1] * (images.ndim - 1))


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model without DDP's and Fabric's wrappers, whose backward hooks would reduce gradients over the processes."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module's own mode afterwards, for frozen ones differ from the rest."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

"""Projected gradient descent on the image: the attack of Madry et al. (2018), under either norm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

NORMS = ("linf", "l2", "l2-sign")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """How an image is changed to be misread.

    Args:
        norm: Which ball around the image the attack stays in: `"linf"` (steps along the sign of the gradient), `"l2"`
            (steps along the gradient, of length `step` per image), or `"l2-sign"`: sign steps in the L2 ball, which is
            what the code that the paper links to calls L2.
        radius: Of the ball, for images from 0 to 1.
        step: Length of a step, in the norm of the direction it takes.
        steps: How many.
        random_start: Whether to start somewhere in the ball instead of at the image.

    Raises:
        ValueError: An unknown norm, a negative radius or step, or less than no steps.
    """

    norm: str = "linf"
    radius: float = 4 / 255
    step: float = 2 / 255
    steps: int = 10
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r}: must be one of {', '.join(NORMS)}")
        for name in ("radius", "step", "steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0")


def attacked(
    model: nn.Module, images: Tensor, classes: Tensor, attack: Attack, *, draw: torch.Generator | None = None
) -> Tensor:
    """Change images so that the model's loss on them rises.

    The model answers in evaluation mode; its modes, its gradients and its BatchNorm statistics are left as they were.
    What wraps it for several processes or mixed precision is left out: the attack waits for nobody, and is in the
    images' precision.

    Args:
        model: From images `(batch, channels, height, width)` within 0 to 1 to logits; it normalises by itself.
        images: Where to start; not changed.
        classes: What they show, `(batch,)`.
        attack: How.
        draw: Decides the random start; torch's global generator if not given.

    Returns:
        Images within the ball around the given ones and within 0 to 1.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> images = torch.full((3, 1, 2, 2), 0.5)
        >>> changed = attacked(model, images, torch.tensor([0, 1, 0]), Attack(radius=0.1, step=0.1, steps=2))
        >>> round(float((changed - images).abs().max()), 4)
        0.1
    """
    net = _plain(model)
    with _answering(net), torch.inference_mode(False), torch.enable_grad():
        clean, classes = images.detach().clone(), classes.clone()
        changed = _within(_start(clean, attack, draw) if attack.random_start else clean, clean, attack)
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
    """The nearest image in the ball, then in the range of images, which is no farther from the clean one."""
    delta = changed - clean
    if attack.norm == "linf":
        delta = delta.clamp(-attack.radius, attack.radius)
    else:
        delta = delta * (attack.radius / lengths(delta).clamp_min(attack.radius or 1.0))
    return (clean + delta).clamp(0, 1)


def _start(clean: Tensor, attack: Attack, draw: torch.Generator | None) -> Tensor:
    """Somewhere in the ball, every place as likely as any other; for `l2-sign` in the cube, as its code has it."""
    # Drawn on the CPU, whose generator a checkpoint keeps wherever the images are.
    if attack.norm == "l2":
        along = torch.randn(clean.shape, generator=draw)
        far = torch.rand(len(clean), generator=draw) ** (1 / clean[0].numel())
        delta = along / lengths(along) * far.reshape(-1, *[1] * (clean.ndim - 1))
    else:
        delta = 2 * torch.rand(clean.shape, generator=draw) - 1
    return clean + attack.radius * delta.to(clean)


def lengths(images: Tensor) -> Tensor:
    """Measure each image's L2 norm, `(batch, 1, 1, 1)`."""
    return images.flatten(1).norm(dim=1).reshape(-1, *[1] * (images.ndim - 1))


def _plain(model: nn.Module) -> nn.Module:
    """The model without what wraps it for several processes: an attack must not wait for the gradients of others."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model


@contextmanager
def _answering(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module goes back to the mode it was in, frozen ones included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

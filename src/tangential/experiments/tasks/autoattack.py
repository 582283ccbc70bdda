"""Robust accuracy by AutoAttack (Croce and Hein, 2020): an evaluation that is independent of the attack in training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tangential.experiments.data.images.in_memory import Batch
from tangential.experiments.tasks.attacks import Attack
from tangential.experiments.tasks.finite import all_finite

_NORMS = {"linf": "Linf", "l2": "L2", "l2-sign": "L2"}


def robust_accuracy(
    model: nn.Module,
    batches: Iterable[Batch],
    attack: Attack,
    *,
    version: str = "standard",
    attacks: Sequence[str] | None = None,
    seed: int = 0,
) -> float:
    """Share of images that a model classifies correctly under every attack of AutoAttack.

    The standard version evaluates the model some thousand times for each image; a few hundred images are a start.

    Args:
        model: From images within 0 to 1 to logits, in evaluation mode.
        batches: Images and their classes; 10 classes at least for the standard version.
        attack: Norm and radius are used; its steps are not.
        version: `"standard"`, `"plus"`, `"rand"`, or `"custom"` with `attacks`.
        attacks: Which attacks, of `apgd-ce`, `apgd-dlr`, `fab`, `square`, `apgd-t`, `fab-t`; for `"custom"` only.
        seed: Of the attacks' random choices.

    Returns:
        From 0 to 1; NaN if the model returned a logit that is not finite.

    Raises:
        ValueError: The package `pyautoattack` is not installed, a model in training mode, a bad version, or no images.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    if (version == "custom") == (attacks is None):
        raise ValueError(
            f"version={version!r}, attacks={attacks}: attacks are for the version 'custom', and only for it"
        )
    robust, count, finite = 0, 0, True

    def checked(images: Tensor) -> Tensor:
        nonlocal finite
        logits = model(images)
        finite = finite and all_finite(logits)
        return logits

    for images, classes in batches:
        runner = _autoattack(checked, images.device, attack, version, attacks, seed)
        _, predicted = runner.run_standard_evaluation(images, classes, batch_size=len(images))
        robust += int((predicted == classes).sum())
        count += len(classes)
    if not count:
        raise ValueError("there are no images to attack")
    return robust / count if finite else math.nan


def _autoattack(
    model: Any,
    device: torch.device,
    attack: Attack,
    version: str,
    attacks: Sequence[str] | None,
    seed: int,
) -> Any:
    try:
        from pyautoattack import AutoAttack
    except ModuleNotFoundError as error:
        raise ValueError("pyautoattack is not installed; run: pip install 'tangential[adversarial]'") from error
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    chosen: Any = None if attacks is None else list(attacks)
    norm: Any = _NORMS[attack.norm]
    kind: Any = version
    return AutoAttack(model, norm=norm, eps=attack.radius, version=kind, attacks=chosen, seed=seed, device=str(device))

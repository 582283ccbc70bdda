"""Robust accuracy by AutoAttack (Croce and Hein, 2020): an evaluation that is independent of the attack in training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from tangential.experiments.data.images.in_memory import Batch
from tangential.experiments.tasks.attacks import Attack

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
        From 0 to 1.

    Raises:
        ValueError: The package `pyautoattack` is not installed, a model in training mode, or a bad version.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    if (version == "custom") == (attacks is None):
        raise ValueError(
            f"version={version!r}, attacks={attacks}: attacks are for the version 'custom', and only for it"
        )
    robust, count = 0, 0
    for images, classes in batches:
        runner = _autoattack(model, images.device, attack, version, attacks, seed)
        _, answers = runner.run_standard_evaluation(images, classes, batch_size=len(images))
        robust += int((answers == classes).sum())
        count += len(classes)
    return robust / count


def _autoattack(
    model: nn.Module, device: torch.device, attack: Attack, version: str, attacks: Sequence[str] | None, seed: int
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

"""What is known of the optimizers that are wrapped: how they decay, whether they step weights one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from tangential.optimizers.base import Projected

_COUPLED = ("ASGD", "Adadelta", "Adagrad", "Adamax", "RMSprop", "Rprop", "SGD")
"""Optimizers of torch whose decay is added to the gradient; `Adam`, `NAdam`, `RAdam` have a key that says so."""
_DECOUPLED = ("Muon", "Adafactor")
_TOGETHER = ("LBFGS",)

_REFUSED = {
    "LBFGS": "its line search evaluates the loss along the step, which a policy would change afterwards",
    "SparseAdam": "its gradients are sparse, and a radial part needs the whole of a block",
}


def check_base(base: Any, wrapper: type) -> None:
    """Raise unless this is an optimizer that can be wrapped.

    Raises:
        TypeError: No optimizer, or a class of one.
        ValueError: An optimizer that a policy makes no sense over.
    """
    if isinstance(base, type) or not isinstance(base, Optimizer):
        came = base.__name__ if isinstance(base, type) else type(base).__name__
        raise TypeError(f"{came} came: wrap an optimizer, such as torch.optim.AdamW(model.parameters())")
    name, reason = type(base).__name__, None
    if isinstance(base, Projected):
        reason = "it projects already: use it as it is, or wrap torch.optim.AdamW or SGD"
    elif isinstance(base, wrapper):
        reason = "it is wrapped already, and the second policy would take what the first does for the base's step"
    elif type(base).__module__.startswith("torch.optim"):
        reason = _REFUSED.get(name)
    if reason is None and any(group.get("differentiable") for group in base.param_groups):
        reason = "with differentiable=True autograd would need the weights that a policy overwrites"
    if reason:
        raise ValueError(f"{name} cannot be wrapped: {reason}")


def is_decoupled(base: Optimizer, group: dict[str, Any], word: bool | None) -> bool:
    """Whether the base multiplies treated weights by `1 - lr * weight_decay` in this group.

    Args:
        base: The optimizer.
        group: One of its groups.
        word: What the user says; None looks for the keys `decoupled_weight_decay` and `weight_decouple`, and among
            optimizers that are known.

    Raises:
        ValueError: Nothing is known, or a form of decay that is not `lr * weight_decay`.
    """
    if not _decays(group):
        return False
    if word is not None:
        return word
    name, home = type(base).__name__, type(base).__module__
    if group.get("fixed_decay") or group.get("corrected_weight_decay"):
        raise ValueError(
            f"{name} with fixed_decay or corrected_weight_decay does not decay by lr * weight_decay: turn it off, or"
            " use the policy CorrectedDecay"
        )
    for key in ("decoupled_weight_decay", "weight_decouple"):
        if isinstance(group.get(key), bool):
            return group[key]
    if home.startswith("torch.optim") and name in (*_COUPLED, *_DECOUPLED):
        return name in _DECOUPLED
    if home.startswith("timm.optim") and name == "Lion":
        return True
    raise ValueError(
        f"{name} has weight_decay={group['weight_decay']}, and it is not known how it decays. Pass decoupled=True if it"
        " multiplies weights by 1 - lr * weight_decay, False if it adds weight_decay times the weight to the gradient"
    )


def _decays(group: dict[str, Any]) -> bool:
    decay = group.get("weight_decay")
    return isinstance(decay, torch.Tensor) or bool(decay)


def steps_one_by_one(base: Optimizer) -> bool:
    """Whether each weight's step depends on that weight alone, so that parts may step one after the other.

    It is known for optimizers of torch and timm's Lion. Others may count steps per group, or clip over all weights.
    """
    name, home = type(base).__name__, type(base).__module__
    return (home.startswith("torch.optim") and name not in _TOGETHER) or (home, name) == ("timm.optim.lion", "Lion")

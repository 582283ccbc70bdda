"""State of a wrapped optimizer before its first step."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer


def make_state(base: Optimizer) -> None:
    """Make the state that a base makes at its first step, of every parameter that has none.

    torch's optimizers have a method that makes it. Others take a step with zero gradients at a learning rate of zero,
    after which their counts of steps and their settings are put back.
    """
    fresh = {p for group in base.param_groups for p in group["params"] if p.requires_grad and not base.state.get(p)}
    given = {p: p.grad for p in fresh}
    for p in fresh:
        p.grad = torch.zeros((), dtype=p.dtype, device=p.device).expand_as(p)
    try:
        if hasattr(base, "_init_group"):
            _call_init_group(base)
        else:
            _take_empty_step(base, fresh)
    finally:
        for p, grad in given.items():
            p.grad = grad


def _call_init_group(base: Any) -> None:
    lists = len(inspect.signature(base._init_group).parameters) - 1
    for group in base.param_groups:
        base._init_group(group, *([] for _ in range(lists)))
        if isinstance(base, SGD) and group["momentum"] and not group["dampening"]:
            for p in group["params"]:  # a buffer of zeros and its first gradient are the gradient that torch copies
                if p.requires_grad and base.state[p].get("momentum_buffer") is None:
                    base.state[p]["momentum_buffer"] = torch.zeros_like(p)


def _take_empty_step(base: Optimizer, fresh: set[Tensor]) -> None:
    groups = [dict(group) for group in base.param_groups]
    try:
        for group in base.param_groups:
            group["params"] = [p for p in group["params"] if p in fresh]
            group["lr"] = 0.0
        with torch.no_grad():
            base.step()
    finally:
        for group, before in zip(base.param_groups, groups, strict=True):
            group.update(before)
    for p in fresh:
        step = base.state[p].get("step")
        if isinstance(step, Tensor):
            step.zero_()
        elif step is not None:
            base.state[p]["step"] = 0

"""Short form of an optimizer for a prompt or a notebook: a line per group, with the settings that are no defaults."""

from __future__ import annotations

from inspect import signature
from typing import Any

from torch.optim import Optimizer

_ALWAYS = ("lr", "weight_decay", "blocks")


def summary(optimizer: Optimizer) -> str:
    """A line per group: how many parameters, then learning rate, decay, blocks and what differs from the defaults.

    Args:
        optimizer: Any of torch's kind.

    Examples:
        >>> import torch
        >>> print(summary(torch.optim.AdamW([torch.ones(2), torch.ones(3)], eps=1e-6)))
        AdamW (
          2 parameters: lr=0.001, weight_decay=0.01, eps=1e-06
        )
    """
    usual = {name: each.default for name, each in signature(type(optimizer).__init__).parameters.items()}
    lines = (_line(group, usual) for group in optimizer.param_groups)
    return "\n".join([f"{type(optimizer).__name__} (", *lines, ")"])


def _line(group: dict[str, Any], usual: dict[str, Any]) -> str:
    # forms are compared, not values: a tensor may lie on a device, an array has no one truth
    others = [name for name in group if name in usual and repr(group[name]) != repr(usual[name])]
    shown = dict.fromkeys(name for name in (*_ALWAYS, *others) if name in group and name != "params")
    count = len(group["params"])
    settings = ", ".join(f"{name}={group[name]!r}" for name in shown)
    return f"  {count} parameter{'' if count == 1 else 's'}: {settings}"

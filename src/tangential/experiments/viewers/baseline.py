"""The optimizer that a user has now, and the projected one that would take its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.optim import Optimizer

from tangential.optimizers import SGDP, AdamP

Name = Literal["adamw", "sgd"]
WD_RATIO = 0.1
"""The default of SGDP and AdamP."""
_DEFAULTS: dict[str, tuple[float, float]] = {"adamw": (1e-3, 1e-2), "sgd": (1e-3, 0.0)}


@dataclass(frozen=True)
class Baseline:
    """AdamW or SGD with its settings.

    Args:
        name: "adamw" or "sgd".
        lr: Learning rate; torch's default if None.
        weight_decay: As torch's class takes it; its default if None.
        momentum: Of SGD.

    Raises:
        ValueError: An unknown name, or a number out of range.

    Examples:
        >>> Baseline("sgd", lr=0.1, momentum=0.9).call("model.parameters()")
        'torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)'
    """

    name: Name = "adamw"
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ValueError(f"optimizer {self.name!r}: must be one of {', '.join(get_args(Name))}")
        for key, default in zip(("lr", "weight_decay"), _DEFAULTS[self.name], strict=True):
            value = getattr(self, key)
            if value is None:
                object.__setattr__(self, key, default)
            elif not 0 <= value < float("inf"):
                raise ValueError(f"{key}={value}: must be at least 0 and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must be at least 0 and below 1")
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum={self.momentum}: only sgd has it; adamw has betas, which stay as they are")

    @property
    def settings(self) -> dict[str, float]:
        """All but the weight decay."""
        momentum = {"momentum": self.momentum} if self.name == "sgd" else {}
        return {"lr": self._lr, **momentum}

    @property
    def title(self) -> str:
        """The class."""
        return "AdamW" if self.name == "adamw" else "SGD"

    @property
    def projected_title(self) -> str:
        """The class with the projection."""
        return "AdamP" if self.name == "adamw" else "SGDP"

    @property
    def decay_per_step(self) -> float:
        """The part of a weight that decay takes at each step; for SGD, of the steady state that momentum leads to."""
        return self._lr * self._decay / (1 - self.momentum)

    def call(self, params: str) -> str:
        """The call that makes the optimizer."""
        return f"torch.optim.{self.title}({params}, {_written({**self.settings, 'weight_decay': self._decay})})"

    def projected_call(self) -> str:
        """The call that makes the projected one, from groups of `find_invariances`."""
        return f"{self.projected_title}(found.param_groups(weight_decay={self._decay}), {_written(self.settings)})"

    def build(self, params: Iterable[Any]) -> Optimizer:
        """Make the optimizer."""
        made: Any = torch.optim.AdamW if self.name == "adamw" else torch.optim.SGD
        return made(params, weight_decay=self._decay, **self.settings)

    def build_projected(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Make the projected one; the groups have their own decay."""
        made: Any = AdamP if self.name == "adamw" else SGDP
        return made(groups, **self.settings)

    @property
    def _lr(self) -> float:
        assert self.lr is not None
        return self.lr

    @property
    def _decay(self) -> float:
        assert self.weight_decay is not None
        return self.weight_decay


def _written(settings: dict[str, float]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())

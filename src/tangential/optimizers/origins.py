"""Optimizers of other packages whose state SGDP and AdamP continue without a difference, and what makes one differ.

A state dict does not name its optimizer. Its groups tell: each has the settings of its constructor. Our own groups have
`blocks`; of the others only those are read whose next step would be ours, and the rest is refused with the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tangential.optimizers.settings import WITHOUT_EFFECT, is_annotation, scalar

Group = Mapping[str, Any]
BACKENDS = ("foreach", "fused", "capturable", "differentiable")
"""Settings of how a step is computed, which are the loading optimizer's own."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An optimizer whose state can be read.

    Args:
        marks: Settings that its groups have, all of them.
        one_of: Settings of which they have one at least; none, if nothing sets them apart further.
        settings: Those that are taken over; what is not among them stays as the loading optimizer has it.
        fixed: Its other settings, with the only value that SGDP and AdamP can continue.
        renamed: Keys of its state, and ours for the same.
        counts: Whether it keeps a step count of each parameter.
        trouble: Why a group cannot be continued, or None.
    """

    marks: frozenset[str]
    one_of: frozenset[str] = frozenset()
    settings: frozenset[str]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    counts: bool = True
    trouble: Callable[[Group], str | None] = lambda group: None

    def saved(self, group: Group) -> bool:
        """Whether a group looks like one of its own."""
        return self.marks <= group.keys() and (not self.one_of or bool(self.one_of & group.keys()))

    def reason_against(self, group: Group) -> str | None:
        """Why a group of this origin cannot be continued exactly, or None."""
        for key, value in group.items():
            if key in self.settings or key in BACKENDS or is_annotation(key):
                continue
            if key not in self.fixed:
                return f"it has the setting {key!r}, which has no counterpart here"
            if scalar(value) != self.fixed[key]:
                return f"it has {key}={value!r}, and only {key}={self.fixed[key]!r} can be continued"
        return self.trouble(group)


def _coupled(group: Group) -> str | None:
    if scalar(group.get("weight_decay", 0)) and not group.get("decoupled_weight_decay"):
        return (
            "its weight decay is added to the gradient (Adam), or it is of a torch that did not record which; if AdamW"
            " saved it, set decoupled_weight_decay=True in its groups, else weight_decay=0"
        )
    return None


def _coupled_sgd(group: Group) -> str | None:
    if scalar(group.get("weight_decay", 0)):
        return (
            "its weight decay is added to the gradient, and that of SGDP is decoupled (and divided by 1 - momentum);"
            " set weight_decay=0 in its groups, and that of SGDP after loading"
        )
    return None


_PROJECTION = frozenset({"delta", "wd_ratio"})
_SHARED = _PROJECTION | {"lr", "eps", "weight_decay", "nesterov", "maximize"}
_ADAM = frozenset({"lr", "betas", "eps", "weight_decay", "maximize"})
_SGD = frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"})

OF_ADAMP = (
    Origin(  # adamp, timm, torch_optimizer
        marks=frozenset({"betas"}), one_of=_PROJECTION, settings=_SHARED | {"betas"}, fixed=WITHOUT_EFFECT
    ),
    Origin(  # torch.optim.AdamW, and Adam without decay
        marks=frozenset({"betas", "amsgrad"}),
        settings=_ADAM | {"decoupled_weight_decay"},
        fixed={"amsgrad": False},
        trouble=_coupled,
    ),
)
OF_SGDP = (
    Origin(  # adamp, timm, torch_optimizer, pytorch_optimizer
        marks=frozenset({"momentum"}),
        one_of=_PROJECTION,
        settings=_SHARED | {"momentum", "dampening", "step"},
        fixed={**WITHOUT_EFFECT, "weight_decouple": True, "fixed_decay": False},
        renamed={"momentum": "momentum_buffer"},
        counts=False,
    ),
    Origin(  # torch.optim.SGD
        marks=frozenset({"momentum", "dampening", "nesterov"}), settings=_SGD, counts=False, trouble=_coupled_sgd
    ),
)

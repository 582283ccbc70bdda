"""Policies of weight decay: the step is the base's, and the decay of treated weights is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tangential.radial.policy import Array, ElementPolicy, Step, StepPolicy, Sums, Terms, check_numbers

_NO_DECAY = (
    "{policy} changes decoupled weight decay, and {base} has none here: its decay is coupled to the gradient, or 0."
    " Use a base with decoupled decay, such as AdamW"
)


@dataclass(frozen=True)
class CautiousDecay(ElementPolicy):
    """Decay of those elements only that the step makes smaller anyway: `w - lr (u + wd [u w >= 0] w)`.

    Source: Chen et al., arXiv 2510.12402, "cautious weight decay".

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 1.0]]))
        >>> base = torch.optim.AdamW([w], lr=0.5, weight_decay=0.5, betas=(0.0, 0.0), eps=0.0)
        >>> optimizer = Radial(base, CautiousDecay(), {w: Blocks()})
        >>> w.grad = torch.tensor([[1.0, -1.0]])
        >>> optimizer.step()
        >>> w.tolist()
        [[0.25, 1.5]]
    """

    wd_ratio = 1.0

    def refuse(self, base: Any, group: dict[str, Any], decoupled: bool) -> str | None:
        """There must be a decay to change."""
        return None if decoupled else _NO_DECAY.format(policy="CautiousDecay", base=type(base).__name__)


@dataclass(frozen=True)
class CorrectedDecay(StepPolicy):
    """AdamC's decay: `lr^2 / max_lr` times `weight_decay`, on scale-invariant weights only.

    Plain decay makes the equilibrium norm of invariant weights, and with it their gradients, depend on the learning
    rate, so that gradients grow when a schedule ends. Source: Defazio, arXiv 2506.02285, which names "normalised
    layers"; which weights these are is what `find_invariances` finds.

    Args:
        max_lr: The learning rate at the height of the schedule; None reads `max_lr` of the group, which OneCycleLR
            writes, or else `initial_lr`, which every scheduler of torch writes.

    Raises:
        TypeError: A `max_lr` that is not a number.
        ValueError: A `max_lr` that is not positive.

    Examples:
        >>> import torch
        >>> from tangential import Blocks, Radial
        >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.0]]))
        >>> base = torch.optim.AdamW([w], lr=0.5, weight_decay=0.5)
        >>> optimizer = Radial(base, CorrectedDecay(max_lr=1.0), {w: Blocks()})
        >>> w.grad = torch.zeros(1, 2)
        >>> optimizer.step()  # AdamW would take a quarter
        >>> w.tolist()
        [[0.875, 0.0]]
    """

    max_lr: float | None = None
    wd_ratio = 1.0
    scales = False
    needs_length = False

    def __post_init__(self) -> None:
        if self.max_lr is not None:
            check_numbers(type(self).__name__, "positive and finite", max_lr=self.max_lr)

    def refuse(self, base: Any, group: dict[str, Any], decoupled: bool) -> str | None:
        """There must be a decay to change."""
        return None if decoupled else _NO_DECAY.format(policy="CorrectedDecay", base=type(base).__name__)

    def decay_ratio(self, step: Step) -> Array:
        """`lr / max_lr`."""
        highest = self.max_lr or step.group.get("max_lr") or step.group.get("initial_lr")
        if not highest:
            raise ValueError(
                "CorrectedDecay: no max_lr is known: pass max_lr, the highest learning rate of the schedule, or make"
                " the scheduler before the first step"
            )
        if isinstance(step.lr, (int, float)) and step.lr > highest * (1 + 1e-6):
            raise ValueError(
                f"CorrectedDecay: lr={step.lr} is above max_lr={highest}; pass the schedule's highest rate"
            )
        return step.lr / highest

    def terms(self, sums: Sums, step: Step, kept: tuple[Array, ...]) -> Terms:
        """The base's step."""
        return Terms(1.0, 1.0)

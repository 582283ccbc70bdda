"""State before the first step, which checkpoint libraries make by a step that moves nothing.

`torch.distributed.checkpoint` saves and loads entries by their keys, so all of them must exist. Where there are none it
sets every `lr` to 0 and every gradient to zeros, and steps. Counted, that step would shift the bias corrections of the
run that goes on, and of the one that is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from tangential.backends import DECISION, VOTES
from tangential.backends.modes import recording


def moves_nothing(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every `lr` and every gradient is zero; gradients are read only where every `lr` is."""
    groups = [*groups]
    if recording() or not all(_is_zero(group["lr"]) for group in groups):
        return False
    grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return bool(grads) and not any(_has_values(grad) for grad in grads)


def uncount(state: Mapping[Any, dict[str, Any]]) -> None:
    """Put step counts, votes and decisions back to what they are before the first step."""
    for own in state.values():
        for key in {"step", VOTES, DECISION} & own.keys():
            own[key].zero_()


def _is_zero(lr: Any) -> bool:
    return lr.is_cpu and not lr.any() if isinstance(lr, Tensor) else lr == 0


def _has_values(grad: Tensor) -> bool:
    largest = grad.detach().abs().sum()
    # of a sharded gradient all ranks need one answer
    return bool(largest.full_tensor() if hasattr(largest, "full_tensor") else largest)  # type: ignore[attr-defined]

"""One step of the base optimizer: of some of its weights, without its hooks, and with treatments around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from tangential.radial.repair import Copies
from tangential.radial.treatments import Treatment


def bare_step(base: Optimizer) -> Callable[[], Any]:
    """The base's step without its hooks, which the wrapper calls once for all parts.

    A step that was put on the instance (`base.step = torch.compile(base.step)`) is taken as it is, except for the
    counter that a scheduler puts there.
    """
    own = vars(base).get("step")
    if own is not None and not getattr(own, "_wrapped_by_lr_sched", False):
        return own
    step: Any = type(base).step
    bare = step.__wrapped__ if getattr(step, "hooked", False) else step
    return lambda: bare(base)


def step_treated(treatments: Sequence[Treatment], base_step: Callable[[], Any], copies: Copies) -> None:
    """Step the base with some weights under treatment; after its error, gradients are as they were."""
    try:
        for treatment in treatments:
            treatment.begin(copies)
        base_step()
    finally:
        for treatment in treatments:
            treatment.restore()
    for treatment in treatments:
        treatment.finish()


@contextmanager
def only(base: Optimizer, params: Sequence[list[Tensor]]) -> Iterator[None]:
    """The base with these parameters in its groups."""
    groups = list(base.param_groups)
    own = [group["params"] for group in groups]
    try:
        for group, some in zip(groups, params, strict=True):
            group["params"] = some
        yield
    finally:
        for group, all_of_it in zip(groups, own, strict=True):
            group["params"] = all_of_it


@contextmanager
def hooks_of(base: Optimizer) -> Iterator[None]:
    """The base's own step hooks, once around all of its parts. They can change no arguments, since there are none."""
    for hook in [*base._optimizer_step_pre_hooks.values()]:  # type: ignore[attr-defined]
        hook(base, (base,), {})
    yield
    for hook in [*base._optimizer_step_post_hooks.values()]:  # type: ignore[attr-defined]
        hook(base, (base,), {})

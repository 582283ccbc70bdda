"""Detected blocks: an optimizer of a recipe with `blocks="detected"` projects what `find_invariances` finds.

The cosine test of the paper decides at every step from the gradients, and looks at channels of the first dimension and
at whole weights only. The analysis knows more: blocks along other dimensions, attention heads, weights that are never
invariant. What it finds becomes parameter groups, one for each kind of blocks, each with the settings of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tangential.blocks import Blocks
from tangential.experiments.training.devices import from_first
from tangential.experiments.training.model_analysis import analysis
from tangential.experiments.training.plan import Plan
from tangential.invariances import Invariances

if TYPE_CHECKING:
    from lightning.fabric import Fabric

DETECTED = "detected"
"""Value of a recipe's setting `optimizers.NAME.blocks`; the optimizers themselves take the blocks that were found."""

Maker = Callable[[Iterable[Any]], Optimizer]


def optimizer_maker(plan: Plan, model: nn.Module, fabric: Fabric) -> Maker:
    """The plan's optimizer, which projects the model's detected blocks if its setting is `blocks="detected"`.

    Raises:
        ValueError: The blocks are to be detected, and the model cannot be analysed.
    """
    if not wants_detection(plan.optimizer):
        return plan.optimizer
    found, reason = from_first(fabric, lambda: analysis(plan, fabric))
    if not found:
        raise ValueError(f"blocks={DETECTED}: the model cannot be analysed ({reason}); use blocks=cosine")
    known = Invariances.from_json(found)
    blocks = {id(weight): known[name] for name, weight in model.named_parameters() if name in known}
    make = with_blocks(plan.optimizer, None)
    return lambda parameters: make([part for group in _as_groups(parameters) for part in _cut(group, blocks)])


def wants_detection(make: Maker) -> bool:
    """Whether a recipe's optimizer is to project detected blocks.

    Examples:
        >>> from tangential import SGDP
        >>> wants_detection(partial(SGDP, blocks="detected")), wants_detection(partial(SGDP))
        (True, False)
    """
    return isinstance(make, partial) and make.keywords.get("blocks") == DETECTED


def with_blocks(make: Maker, blocks: Blocks | str | None) -> Maker:
    """The same optimizer with other blocks where they were to be detected, for groups that state their own."""
    if not (isinstance(make, partial) and wants_detection(make)):
        return make
    return partial(make.func, *make.args, **{**make.keywords, "blocks": blocks})


def _as_groups(parameters: Iterable[Any]) -> list[dict[str, Any]]:
    parameters = list(parameters)
    return parameters if parameters and isinstance(parameters[0], dict) else [{"params": parameters}]


def _cut(group: Mapping[str, Any], blocks: Mapping[int, Blocks | None]) -> list[dict[str, Any]]:
    """A parameter group for each kind of blocks in a group, in the order in which they first occur."""
    members: dict[Blocks | None, list[Tensor]] = {}
    for weight in group["params"]:
        members.setdefault(blocks.get(id(weight)), []).append(weight)
    return [{**group, "params": weights, "blocks": kind} for kind, weights in members.items()]

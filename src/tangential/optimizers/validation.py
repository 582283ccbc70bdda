"""Validation of parameters, gradients and state. An error names what came, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tangential.backends import require_kernel
from tangential.backends.dtensor import is_dtensor, local_tensor
from tangential.blocks import Blocks
from tangential.sharding import Dependence, SharedSums, dependence_of

_FLAT = (
    "as FSDP1, DeepSpeed ZeRO and flat buffers make them, and those keep no rows that could be projected. Shard with"
    " `torch.distributed.fsdp.fully_shard` (FSDP2) or tensor parallelism, or replicate with DistributedDataParallel and"
    " ZeroRedundancyOptimizer: all of these give the steps of one process. With blocks=None, nothing is projected and"
    " flat parameters are stepped as by AdamW or SGD"
)


def check_params(params: Any, owner: str) -> None:
    """Raise TypeError for what is not parameters: a module, a dict of them, or nothing."""
    if params is None or isinstance(params, (Mapping, str)):
        kind = type(params).__name__
        raise TypeError(f"{owner}({kind}): must be parameters or a list of groups, like model.parameters()")
    if isinstance(params, nn.Module) and not isinstance(params, nn.ParameterList):
        raise TypeError(f"{owner}({type(params).__name__}): a module came; pass its parameters, model.parameters()")


def check_members(params: Any, owner: str) -> list[Any]:
    """The parameters of a group as a list.

    Args:
        params: What a group has as `params`.
        owner: What errors call the optimizer.

    Raises:
        TypeError: A module, which holds parameters, in the place of one.
        ValueError: A parameter that is there twice.
    """
    members = [params] if isinstance(params, nn.Module) and not isinstance(params, nn.ParameterList) else list(params)
    for given in members:
        p = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if isinstance(p, nn.Module) and not isinstance(p, nn.ParameterList):
            kind = type(p).__name__
            raise TypeError(f"{owner}: a module came, {kind}, in the place of parameters; pass its parameters()")
    check_distinct(members, {})
    return members


def check_distinct(params: Iterable[Any], group: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter that a group holds twice: it would take two steps with one gradient.

    Args:
        params: Parameters, or pairs of name and parameter.
        group: Where names of parameters may be.
    """
    seen: set[int] = set()
    for i, given in enumerate(params):
        p = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if id(p) in seen:
            raise ValueError(
                f"{label(group, i)} came twice in one parameter group; a parameter steps once: list it once"
            )
        seen.add(id(p))


def check_parameter(p: Tensor, group: Mapping[str, Any], name: str) -> Dependence | None:
    """Raise ValueError for a parameter that cannot be stepped, or that its group's blocks or backend do not fit.

    A lazy parameter has no shape yet; it is checked at its first step. Returns what the step of a DTensor depends on.
    """
    if is_lazy(p):
        return None
    if is_flat(p) and group["blocks"] is not None:
        raise ValueError(f"{name} is part of a flat parameter of FullyShardedDataParallel, {_FLAT}")
    if isinstance(group["blocks"], Blocks):
        _check_blocks(p, group["blocks"], name)
    if is_dtensor(p):
        return _check_sharded(p, group, name)
    if group["fused"]:
        require_kernel(p)
    return None


def _check_sharded(p: Tensor, group: Mapping[str, Any], name: str) -> Dependence:
    """What the step of a DTensor depends on; ValueError for a layout or a setting under which it cannot be stepped."""
    if group["differentiable"]:
        raise ValueError(f"{name} is a DTensor, whose step cannot be recorded: use differentiable=False")
    try:
        found = dependence_of(p, group["blocks"])
    except ValueError as error:
        raise ValueError(f"{name} is a DTensor that cannot be stepped: {error}") from None
    if group["fused"]:
        if isinstance(found, SharedSums):
            raise ValueError(
                f"fused=True, but the blocks of {name} are spread over ranks, or found by the paper's test, and the"
                " kernel waits for no other rank; leave it None, and each parameter gets the fastest way there is"
            )
        require_kernel(local_tensor(p))
    return found


def _check_blocks(p: Tensor, blocks: Blocks, name: str) -> None:
    try:
        blocks.check(p.shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if p.numel() and blocks.smallest(p.shape) == 1:
        raise ValueError(
            f"{name} of shape {tuple(p.shape)} under {blocks} has blocks of one element: any step of such a block is"
            " radial, so it would never move. Gains, biases and vectors take blocks=None, in a group of their own"
        )


def check_reshaped(before: Sequence[int], p: Tensor, blocks: Blocks | str | None, name: str) -> None:
    """Raise ValueError for a parameter whose shape changed so that its blocks are no longer what they were.

    Args:
        before: The shape that was checked last.
        p: What takes its place.
        blocks: Those of the group. Without any, a shape does not matter; the paper's test is asked anew at every step,
            but never of a vector.
        name: What errors call it.
    """
    if isinstance(blocks, Blocks):
        changed = _cut(before, blocks) != _cut(p.shape, blocks)
    else:
        changed = blocks is not None and p.ndim < 2 <= len(before)
    if changed:
        raise ValueError(
            f"{name} had shape {tuple(before)} when it was checked and has {tuple(p.shape)} now, which"
            f" blocks={blocks!r} does not fit: it was resized, or is part of a flat parameter, {_FLAT}"
        )


def _cut(shape: Sequence[int], blocks: Blocks) -> tuple[int, ...]:
    """What may not change: more or fewer blocks of one size are the same cut; else every dimension counts."""
    if blocks.segments is not None or blocks.size is None:
        return tuple(shape)
    return tuple(-1 if i == blocks.dim else n for i, n in enumerate(shape))


def check_state_shapes(
    group: Mapping[str, Any], state: Mapping[Any, Mapping[str, Any]], moments: Sequence[str]
) -> None:
    """Raise ValueError for moments of another shape than their weight, which was resized or replaced."""
    for i, p in enumerate(group["params"]):
        own = {} if is_lazy(p) else state.get(p, {})
        for key in (key for key in moments if key in own and own[key].shape != p.shape):
            raise ValueError(
                f"{label(group, i)} has shape {tuple(p.shape)}, but its {key} has {tuple(own[key].shape)}: the weight"
                " was resized. Resize its state too, or delete it (`del optimizer.state[weight]`) to start afresh"
            )


def is_flat(p: Tensor) -> bool:
    """Whether FullyShardedDataParallel (FSDP1) has made this parameter a part of a flat vector."""
    return getattr(p, "_fsdp_flattened", False)


def check_capture(groups: Iterable[dict[str, Any]]) -> None:
    """Raise RuntimeError if a CUDA graph captures a step whose step counts are on the host, so would never change."""
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        if not all(group["capturable"] for group in groups):
            raise RuntimeError("a CUDA graph captures a step with capturable=False: construct with capturable=True")


def label(group: Mapping[str, Any], i: int) -> str:
    """What errors call the parameter at a place of a group: its name, or the place."""
    names = group.get("param_names")
    return f"weight {names[i]!r}" if names and i < len(names) else f"parameter {i}"

"""Validation of groups, parameters, gradients and state. An error names what came, what is allowed and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tangential.backends import require_kernel
from tangential.blocks import Blocks

_AT_LEAST_ZERO = ("lr", "eps", "weight_decay", "delta")
_BELOW_ONE = ("momentum",)
_BLOCKS = "must be 'cosine', 'sticky', a tangential.Blocks, or None"
_SWITCHES = ("nesterov", "maximize", "capturable", "differentiable")


def check_group(group: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for a parameter group's settings that are not allowed."""
    for name in _AT_LEAST_ZERO:
        _check_number(name, group[name], allowed="finite and at least 0", holds=lambda x: 0 <= x < math.inf)
    for name in _BELOW_ONE:
        if name in group:
            _check_number(name, group[name], allowed="in [0, 1)", holds=lambda x: 0 <= x < 1)
    if "dampening" in group:
        _check_number("dampening", group["dampening"], allowed="finite", holds=math.isfinite)
    if "betas" in group:
        _check_betas(group["betas"])
    _check_number(
        "wd_ratio", group["wd_ratio"], allowed="in [0, 1]; 1 turns the reduced decay off", holds=lambda x: 0 <= x <= 1
    )
    for name in _SWITCHES:
        if not isinstance(group[name], bool):
            raise TypeError(f"{name}={group[name]!r}: must be True or False")
    _check_blocks(group["blocks"])
    _check_backend(group)


def check_parameter(p: Tensor, group: dict[str, Any]) -> None:
    """Raise ValueError for a parameter that cannot be stepped, or that its group's blocks or backend do not fit."""
    if is_sharded(p):
        raise ValueError(
            "a sharded parameter (DTensor or FSDP) came: a shard does not hold the whole of a scale-invariant block, so"
            " its step would be wrong. Sharded weights are not supported yet; use DistributedDataParallel, or"
            " torch.optim.AdamW"
        )
    if isinstance(group["blocks"], Blocks):
        group["blocks"].check(p.shape)
    if group["fused"]:
        require_kernel(p)


def is_sharded(p: Tensor) -> bool:
    """Whether this is a shard of a parameter: a DTensor, or what FSDP flattened."""
    return any(cls.__name__ == "DTensor" for cls in type(p).__mro__) or getattr(p, "_fsdp_flattened", False)


def check_gradients(weights: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Raise ValueError if a gradient cannot be stepped with."""
    for i, g in enumerate(grads):
        if g.layout != torch.strided:
            raise ValueError(
                f"a {g.layout} gradient came for a parameter of shape {tuple(weights[i].shape)}: only dense gradients"
                " are allowed. Use nn.Embedding(sparse=False), or give that parameter to torch.optim.SparseAdam"
            )


def check_capture(groups: Iterable[dict[str, Any]]) -> None:
    """Raise RuntimeError if a CUDA graph captures a step whose step counts are on the host, so would never change."""
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        if not all(group["capturable"] for group in groups):
            raise RuntimeError("a CUDA graph captures a step with capturable=False: construct with capturable=True")


def check_state(states: Iterable[dict[str, Any]], names: tuple[str, ...], owner: str) -> None:
    """Raise ValueError for the state of another optimizer."""
    for own in states:
        missing = sorted(set(names) - set(own))
        if own and missing:
            raise ValueError(
                f"state with keys {sorted(own)} came: {owner} needs {sorted(names)}, so {missing} is missing. It was"
                " saved by another optimizer; load it into that one, or start with fresh state"
            )


def _check_number(name: str, value: Any, *, allowed: str, holds: Any) -> None:
    if isinstance(value, Tensor):
        if name != "lr":
            raise TypeError(f"{name} is a tensor: must be a number; only lr may be a tensor")
        if value.ndim:
            raise ValueError(
                f"lr is a tensor of shape {tuple(value.shape)}: must have no dimensions; use lr.reshape(())"
            )
        if value.device.type != "cpu":  # its value is not read back
            return
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: must be a number")
    if not holds(value):
        raise ValueError(f"{name}={value}: must be {allowed}")


def _check_betas(betas: Any) -> None:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas={betas!r}: must be two numbers, like (0.9, 0.999)")
    for beta in betas:
        _check_number("betas", beta, allowed="two numbers in [0, 1)", holds=lambda x: 0 <= x < 1)


def _check_blocks(blocks: Any) -> None:
    if blocks is None or isinstance(blocks, Blocks):
        return
    if not isinstance(blocks, str):
        raise TypeError(f"blocks={blocks!r}: {_BLOCKS}")
    if blocks not in ("cosine", "sticky"):
        raise ValueError(f"blocks={blocks!r}: {_BLOCKS}")


def _check_backend(group: dict[str, Any]) -> None:
    for name in ("foreach", "fused"):
        if group[name] not in (True, False, None):
            raise TypeError(f"{name}={group[name]!r}: must be True, False or None")
    if group["foreach"] and group["fused"]:
        raise ValueError(
            "foreach=True with fused=True: ask for one; fused leaves what it cannot step to foreach anyway"
        )
    for name in ("foreach", "fused"):
        if group[name] and group["differentiable"]:
            raise ValueError(
                f"{name}=True with differentiable=True: autograd needs one tensor at a time; use {name}=False"
            )

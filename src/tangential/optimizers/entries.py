"""Entries of a loaded state, one parameter at a time: types, shapes, dtypes, memory and values.

The kernels write to moments, step counts, decisions and votes through their addresses. So each is made to be what a
first step would have made: moments of the weight's shape and device in float32 at least, in memory of their own; a step
count of one float32; a decision of one byte; votes of two integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from tangential.backends import DECISION, REMAINDER, VOTES, has_remainder
from tangential.backends.dtensor import local_tensor
from tangential.backends.opmath import opmath_dtype
from tangential.backends.sticky import VOTING_STEPS
from tangential.optimizers.origins import Source


class Entries:
    """The entries of all parameters of one state dict; what several of them share is looked for across them.

    Args:
        optimizer: The one that loads.
        moments: Keys of its moments.
    """

    def __init__(self, optimizer: Optimizer, moments: Sequence[str]) -> None:
        self._owner = type(optimizer).__name__
        self._moments = moments
        self._needed = {"step", *moments}
        self._known = {*self._needed, DECISION, VOTES, REMAINDER}
        self._squares = {"exp_avg_sq"} & {*self._moments}
        params = (p for group in optimizer.param_groups for p in group["params"])
        self._memory = {_address(p) for p in params if not is_lazy(p)}
        self._read: dict[torch.device, list[tuple[str, Tensor]]] = {}
        self.dropped: set[str] = set()
        """Keys of another optimizer's state that were passed over."""

    def of(self, p: Tensor, saved: Any, group: Mapping[str, Any], source: Source, name: str) -> dict[str, Any]:
        """What is to be stored for a parameter; empty if nothing was saved.

        Args:
            p: The parameter.
            saved: What the state dict has of it.
            group: The settings it will have.
            source: The saved group that the parameter was in.
            name: What errors call the parameter.

        Raises:
            TypeError: An entry of another type.
            ValueError: An entry that is missing, unknown, or does not fit the parameter.
        """
        own = self._complete(saved, source, p, name)
        if not own:
            return {}
        if is_lazy(p):
            raise ValueError(f"{name} is not initialised, so its state cannot be checked: run one batch, then load")
        found = dict(own)
        count = _count(own["step"], name)
        found["step"] = torch.tensor(count, dtype=torch.float32, device=_device_of_count(own["step"], p, group))
        for key in self._moments:
            found[key] = self._moment(own[key], p, f"{name}: {key}", keep_graph=group["differentiable"])
        if DECISION in own:
            found[DECISION] = _integers(own[DECISION], (), 2, f"{name}: {DECISION}").to(p.device, torch.uint8)
        if VOTES in own:
            votes = _integers(own[VOTES], (2,), VOTING_STEPS, f"{name}: {VOTES}")
            if votes.sum() > min(count, VOTING_STEPS):
                raise ValueError(f"{name}: {VOTES} are {votes.tolist()}, more than its {count:.0f} steps could cast")
            found[VOTES] = votes.to(p.device, torch.int32)
        check_votes(p, found, group, count, name)
        self._add_remainder(found, p, group, f"{name}: {REMAINDER}")
        return found | {k: _moved(v, p, f"{name}: {k}") for k, v in found.items() if k not in self._known}

    def _complete(self, saved: Any, source: Source, p: Tensor, name: str) -> dict[str, Any]:
        """The entries under our keys, none missing and, from another optimizer, none dropped without leave."""
        if saved is not None and not isinstance(saved, Mapping):
            raise TypeError(f"{name}: its state is a {type(saved).__name__}, must be a dict")
        own = self._renamed(dict(saved or {}), source, p)
        missing, extra = sorted(self._needed - own.keys()), sorted(map(str, own.keys() - self._known))
        if own and missing:
            raise ValueError(
                f"{name}: state with keys {sorted(map(str, own))} came: {self._owner} needs {sorted(self._needed)}, so"
                f" {missing} is missing. It was saved by another optimizer; load it into that one, or start with fresh"
                " state"
            )
        if source.origin is not None and extra:
            raise ValueError(
                f"{name}: its state was saved by another optimizer and has {extra} too, which {self._owner} would drop."
                f" To go on without: allow={tuple(extra)}"
            )
        return own

    def _renamed(self, saved: dict[Any, Any], source: Source, p: Tensor) -> dict[Any, Any]:
        """The entries of another optimizer under our keys, with its count of steps."""
        origin = source.origin
        if origin is None:
            return saved
        kept = {key: value for key, value in saved.items() if value is not None and key not in source.dropped}
        self.dropped |= {key for key in saved if key in source.dropped}
        own = {origin.renamed.get(key, key): value for key, value in kept.items()}
        steps = source.group.get("step", 0)
        if origin.counts != "parameter" and own:
            own.setdefault("step", steps)
        if origin.counts == "group" and not own and not is_lazy(p) and _count(steps, "step of the group"):
            # a parameter without a gradient so far: its first step there is corrected by the group's count
            own = {"step": steps, **{key: torch.zeros_like(p) for key in self._moments}}
        return own

    def _moment(self, value: Any, p: Tensor, what: str, *, keep_graph: bool) -> Tensor:
        value = _dense(value, what, like=p)
        if value.shape != p.shape:
            raise ValueError(f"{what} has shape {tuple(value.shape)}, but the weight has {tuple(p.shape)}")
        if value.is_complex() != p.is_complex() or not (value.is_complex() or value.is_floating_point()):
            raise ValueError(f"{what} is {value.dtype}, and the weight {p.dtype}")
        if value.is_meta and not p.is_meta:
            raise ValueError(f"{what} is on the meta device, so it holds no values")
        value = value if keep_graph else value.detach()
        value = value.resolve_conj().resolve_neg().to(p.device, opmath_dtype(p.dtype))
        if _address(value) in self._memory or value.is_inference() or value.stride() != p.stride():
            value = torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)
        self._memory |= {_address(value)} - {0}
        if not value.is_meta:
            self._read.setdefault(value.device, []).append((what, value))
        return value

    def _add_remainder(self, found: dict[str, Any], p: Tensor, group: Mapping[str, Any], what: str) -> None:
        """Check a remainder, in place; of a weight that has none in this group, drop it."""
        if REMAINDER not in found or not has_remainder(p, group["compensation"]):
            found.pop(REMAINDER, None)
            return
        value = _dense(found[REMAINDER], what, like=p)
        if value.shape != p.shape or value.dtype != torch.int16 or value.is_meta != p.is_meta:
            raise ValueError(
                f"{what} is a {value.dtype} tensor of shape {tuple(value.shape)} on {value.device}, must be int16 of"
                f" {tuple(p.shape)}"
            )
        found[REMAINDER] = torch.empty_like(p, dtype=torch.int16, requires_grad=False).copy_(value)

    def check_values(self) -> None:
        """Raise ValueError for moments that are not finite, or squares below zero; one read-back per device."""
        for tensors in self._read.values():
            with torch.no_grad():
                good = torch.stack([self._sound(what, local_tensor(x)) for what, x in tensors]).tolist()
            for (what, _), yes in zip(tensors, good, strict=True):
                if not yes:
                    raise ValueError(
                        f"{what} is not finite{', or below zero' if self._square(what) else ''}: the run had diverged"
                        " or the file is damaged. Load an earlier checkpoint, or start with fresh state"
                    )

    def _sound(self, what: str, x: Tensor) -> Tensor:
        x = torch.view_as_real(x) if x.is_complex() else x
        return (x.isfinite() & (x >= 0)).all() if self._square(what) else x.isfinite().all()

    def _square(self, what: str) -> bool:
        return what.rsplit(": ", 1)[-1] in self._squares


def check_votes(p: Tensor, own: Mapping[str, Any], group: Mapping[str, Any], count: float, name: str) -> None:
    """Raise ValueError for a weight under "sticky" that has stepped without votes: it would never be projected."""
    if group["blocks"] == "sticky" and p.ndim > 1 and count > 0 and VOTES not in own:
        raise ValueError(
            f"{name}: blocks='sticky' is decided by the first {VOTING_STEPS} steps, and its state has taken"
            f" {count:.0f} without votes. Use blocks='cosine' or a tangential.Blocks, or start with fresh state"
        )


def _address(x: Tensor) -> int:
    """Where the memory of a tensor begins; 0 if it has none of its own to share."""
    return x.untyped_storage().data_ptr() if type(x) in (Tensor, Parameter) and x.layout == torch.strided else 0


def _dense(value: Any, what: str, *, like: Tensor | None = None) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{what} is a {type(value).__name__}, must be a tensor")
    if type(value) not in (Tensor, Parameter, type(like)) or value.is_nested or value.is_quantized:
        raise TypeError(f"{what} is a {type(value).__name__} of another kind than its weight, must be a plain tensor")
    if value.layout != torch.strided:
        raise ValueError(f"{what} has the layout {value.layout}, must be dense")
    return value


def _moved(value: Any, p: Tensor, what: str) -> Any:
    """What a user keeps beside the moments, with its weight."""
    if isinstance(value, Tensor) and value.is_meta and not p.is_meta:
        raise ValueError(f"{what} is on the meta device, so it holds no values")
    return value.to(p.device) if isinstance(value, Tensor) else value


def _count(value: Any, name: str) -> float:
    """A step count as a number."""
    what = f"{name}: step"
    if isinstance(value, Tensor):
        value = _dense(value, what)
        if value.numel() != 1 or value.is_complex() or value.dtype == torch.bool or value.is_meta:
            raise ValueError(f"{what} is a {value.dtype} tensor of shape {tuple(value.shape)}, must be one number")
        value = value.item()
    elif hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a {type(value).__name__}, must be a number")
    if not 0 <= value < 2**53 or value != math.floor(value):
        raise ValueError(f"{what} is {value}, must be a whole number of at least 0")
    return float(value)


def _device_of_count(saved: Any, p: Tensor, group: Mapping[str, Any]) -> torch.device:
    """With its weight for CUDA graphs, or where the CUDA kernel had put it; else on the host."""
    there = isinstance(saved, Tensor) and not saved.is_cpu and not p.is_cpu
    return p.device if group["capturable"] or there else torch.device("cpu")


def _integers(value: Any, shape: tuple[int, ...], most: int, what: str) -> Tensor:
    value = _dense(value, what)
    if tuple(value.shape) != shape or value.is_floating_point() or value.is_complex() or value.is_meta:
        raise ValueError(f"{what} is a {value.dtype} tensor of shape {tuple(value.shape)}, must be integers of {shape}")
    value = value.to("cpu", torch.int64)
    if bool((value < 0).any()) or bool((value > most).any()):
        raise ValueError(f"{what} is {value.tolist()}, must be in [0, {most}]")
    return value

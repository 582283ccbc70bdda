"""The launches of one step for the weights of one device and one pair of dtypes.

What depends on shapes lies on the device from the start. Addresses and settings are sent again only when they changed,
from pinned memory and without waiting; everything else, the step count too, lives on the device. So a step never makes
the host wait, and a CUDA graph can capture it.
"""

from __future__ import annotations

import importlib.util
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tangential.kernels.cuda import layout
from tangential.kernels.cuda.plan import Cut

OLDEST = (7, 0)
"""The least compute capability that Triton compiles for."""

WARPS = 8
"""Warps of a program: a tile of 4096 elements is 16 elements of each of its threads."""

ROUNDING = dict(enable_fp_fusion=True)
"""A product and a sum round once, as in the C kernel (-ffp-contract=fast). Triton 3.10 has another default than 3.9."""


@lru_cache
def why_missing(device: torch.device) -> str | None:
    """Reason for which there is no kernel for a device, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed, which comes with torch's CUDA wheels on Linux"
    if device.type != "cuda":  # the interpreter of Triton, on a CPU
        return None
    if torch.version.hip:
        return "the kernel has not been tried on ROCm"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"{torch.cuda.get_device_name(device)} is older than what Triton compiles for"
    try:
        _driver()
    except Exception as error:  # whatever keeps Triton from its driver: no C compiler, no headers, a read-only cache
        return f"Triton cannot launch anything here: {error}"
    return None


def _driver() -> None:
    """Make Triton find its driver, which it compiles a part of."""
    from triton.runtime import driver

    driver.active.get_current_target()


def capturing(device: torch.device) -> bool:
    """Whether what is launched now goes into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class Sent:
    """Integers and floats on a device, and the pinned memory they come from, which a CUDA graph reads again."""

    def __init__(self, words: array[int], device: torch.device, pinned: Tensor | None = None) -> None:
        host = torch.frombuffer(words, dtype=torch.int64) if words else torch.empty(0, dtype=torch.int64, device="cpu")
        if device.type == "cuda":
            host = (pinned if pinned is not None else torch.empty_like(host, pin_memory=True)).copy_(host)
        self.host = host
        self.words = host.to(device, non_blocking=True, copy=True)


class Launch:
    """One list of weights, ready to step.

    Args:
        cut: Their runs and pieces.
        weights: How many there are.
        groups: How many parameter groups they come from.
        dtypes: Of the weights and gradients, and of the moments.
        adam: Whether the rule is AdamP's.
        nesterov: Whether the rule is Nesterov's.
        remainders: Whether the weights have remainders.
        voting_steps: Steps that vote where votes are counted.
    """

    def __init__(
        self,
        cut: Cut,
        device: torch.device,
        *,
        weights: int,
        groups: int,
        dtypes: tuple[torch.dtype, torch.dtype],
        adam: bool,
        nesterov: bool,
        remainders: bool,
        voting_steps: int,
    ) -> None:
        from tangential.kernels.cuda import phases

        self._phases, self._device, self._weights, self._groups = phases, device, weights, groups
        self._voting_steps = voting_steps
        self._rule = (adam, nesterov, *map(_triton_dtype, dtypes), remainders)
        columns = (cut.runs, cut.pieces, cut.mended, cut.gathers, cut.tested)
        self._runs, self._pieces, self._mended, self._gathers, self._tested = (Sent(x, device) for x in columns)
        self._numbers = torch.empty(weights * layout.NUMBERS, device=device)
        self._state = torch.empty(weights * layout.STATE, dtype=torch.int32, device=device)
        self._keeps, self._findings = (torch.empty(n, device=device) for n in (cut.keeps, cut.findings * layout.NOTES))
        self._sums, self._all_sums = torch.empty(4 * cut.sums, device=device), cut.sums
        self._scale, self._found = torch.ones((), device=device), torch.zeros((), device=device)
        self._last: tuple[Any, Sent] | None = None
        self._spare: Tensor | None = None
        self._held: list[Sent] = []

    def __call__(
        self,
        addresses: Sequence[Sequence[int]],
        settings: Sequence[Sequence[float]],
        there: dict[tuple[int, int], Tensor],
        scale: Tensor | None,
        found: Tensor | None,
    ) -> None:
        """Take one step.

        Args:
            addresses: The rows of `layout` up to `REMAINDER`, and the group of each weight.
            settings: The fields of `group` in `c/table.h`, per group.
            there: Settings that live on a device, by group and field.
            scale: What the gradients are multiplied by.
            found: Not 0 if some gradient overflowed: then nothing changes.
        """
        with self._guard():
            sent = self._send(addresses, settings)
            table = sent.words[: layout.ADDRESSES * self._weights]
            numbers = sent.words[layout.ADDRESSES * self._weights :].view(torch.float64)
            for (group, field), setting in there.items():
                numbers[group * layout.SETTINGS + field].copy_(setting, non_blocking=True)
            self._launch(table, numbers, self._near(scale, self._scale), self._near(found, self._found))

    def _launch(self, table: Tensor, settings: Tensor, scale: Tensor, found: Tensor) -> None:
        phases, n = self._phases, self._weights
        runs, numbers, state, keeps, sums = self._runs.words, self._numbers, self._state, self._keeps, self._sums
        grid = (-(-n // 128),)
        phases.prepare[grid](table, n, settings, numbers, state, scale, found, ADAM=self._rule[0], B=128, **ROUNDING)
        here = (table, n, runs, self._pieces.words, numbers, state, keeps, sums, self._all_sums, self._findings, found)
        phases.apply[_programs(self._pieces)](*here, T=self._rule, num_warps=WARPS, **ROUNDING)
        if self._gathers.words.numel():
            here = (runs, self._gathers.words, numbers, keeps, sums, self._all_sums, self._findings, found)
            phases.gather[_programs(self._gathers)](*here, R=8, C=256, **ROUNDING)
        if self._tested.words.numel():
            here = (table, n, runs, self._tested.words, numbers, state, self._findings, found)
            phases.decide[(self._tested.words.numel(),)](*here, VOTING_STEPS=self._voting_steps, B=512, **ROUNDING)
        if self._mended.words.numel():
            here = (table, n, runs, self._mended.words, numbers, state, keeps, found)
            phases.repair[_programs(self._mended)](*here, T=self._rule, num_warps=WARPS, **ROUNDING)

    def _send(self, addresses: Sequence[Sequence[int]], settings: Sequence[Sequence[float]]) -> Sent:
        """The table on the device, sent again if it differs from the last.

        A graph reads what was sent while it was captured whenever it is replayed, so that is held for good, and no
        step outside the graph relies on it.
        """
        words = array("q")
        for column in addresses:
            words.extend(column)
        words.extend(_aligned(addresses))
        words.frombytes(array("d", [x for group in settings for x in group]).tobytes())
        key, in_graph = (words, self._stream()), capturing(self._device)
        if self._last is not None and (self._last[0] == key or (in_graph and self._last[0][0] == words)):
            sent = self._last[1]
        else:
            sent = Sent(words, self._device, self._spare if in_graph else None)
            if in_graph:
                self._spare = None
            else:
                self._last = (key, sent)
        if in_graph:
            self._held.append(sent)
        elif self._spare is None and self._device.type == "cuda":  # pinned memory cannot be taken during a capture
            self._spare = torch.empty_like(sent.host, pin_memory=True)
        return sent

    def _stream(self) -> int:
        return torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else 0

    def _guard(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _near(self, x: Tensor | None, otherwise: Tensor) -> Tensor:
        return otherwise if x is None else x.to(self._device, torch.float32, non_blocking=True)


def _aligned(addresses: Sequence[Sequence[int]]) -> list[int]:
    """Whether all of a weight's tensors begin at multiples of 16 bytes, which wide loads need: views need not."""
    tensors = (layout.WEIGHT, layout.GRAD, layout.FIRST, layout.SECOND, layout.REMAINDER)
    rows = zip(*(addresses[i] for i in tensors), strict=True)
    return [int((p | g | m | v | low) % 16 == 0) for p, g, m, v, low in rows]


def _programs(pieces: Sent) -> tuple[int]:
    return (pieces.words.numel() // layout.PIECE,)


def _triton_dtype(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}[dtype]

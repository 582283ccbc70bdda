"""Seven sums per block of one weight's step, on its device until all are brought to the host together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tangential.telemetry.block_rows import to_float64
from tangential.telemetry.watch_list import WatchedWeight

SUMS = ("ww", "dd", "wd", "gg", "wg", "mm", "wm")
"""`w` the weight before the step, `d` its change, `g` the gradient, `m` the momentum after the step."""


@dataclass(frozen=True, eq=False)
class BlockSums:
    """One weight's share of a record, still on its device.

    Args:
        weight: The weight.
        sums: `SUMS` of each measured block, `(7, blocks)`; NaN where there is nothing to sum.
        norm_squared: `|w|^2` of the whole weight, 0-d.
        projected: Whether the step projects it; None if the optimizer is not one of ours.
        stored: Whether a predicted step is what was stored, 0-d; None where the step was measured.
        measured: What holds if it is not.
    """

    weight: WatchedWeight
    sums: Tensor
    norm_squared: Tensor
    projected: Tensor | bool | None = None
    stored: Tensor | None = None
    measured: BlockSums | None = None

    def flat(self) -> Tensor:
        """All numbers in a row, `(7 * blocks + 3,)`."""
        ends = [self._number(x) for x in (self.norm_squared, self.projected, self.stored)]
        return torch.cat([self.sums.flatten(), torch.stack(ends)])

    def _number(self, x: Tensor | bool | None) -> Tensor:
        number = x if isinstance(x, Tensor) else self.norm_squared.new_full((), bool(x))
        return number.to(device=self.sums.device, dtype=self.sums.dtype)


@dataclass(frozen=True)
class Gathered:
    """`BlockSums` on the host, as far as a record needs them.

    Args:
        weight: The weight.
        sums: `(7, blocks)`, float64.
        norm_squared: `|w|^2` of the whole weight.
        projected: Whether the step projects it; None if the optimizer is not one of ours.
    """

    weight: WatchedWeight
    sums: Tensor
    norm_squared: float
    projected: bool | None


def gathered(found: list[BlockSums], extras: list[Tensor]) -> tuple[list[Gathered], list[float]]:
    """Bring everything to the host: one transfer per device, which is one.

    Args:
        found: What each weight did.
        extras: Further 0-d tensors on any device.

    Returns:
        The weights' sums, measured ones in place of predictions that did not come true, and the extras' values.
    """
    candidates = [x for each in found for x in (each, each.measured) if x is not None]
    read = _read([x.flat() for x in candidates] + [to_float64(x.detach()).reshape(1) for x in extras])
    numbers = {id(x): row for x, row in zip(candidates, read, strict=False)}
    chosen = []
    for each in found:
        missed = each.measured is not None and not numbers[id(each)][-1]
        final = each.measured if missed and each.measured is not None else each
        norm_squared, projected, _ = numbers[id(final)][-3:].tolist()
        fired = None if final.projected is None else bool(projected)
        chosen.append(Gathered(each.weight, numbers[id(final)][:-3].view(len(SUMS), -1), norm_squared, fired))
    return chosen, [float(x) for x in read[len(candidates) :]]


def _read(flats: list[Tensor]) -> list[Tensor]:
    """The same tensors on the host, in float64."""
    places: dict[torch.device, list[int]] = {}
    for i, x in enumerate(flats):
        places.setdefault(x.device, []).append(i)
    found: list[Tensor] = list(flats)
    for at in places.values():
        together = torch.cat([flats[i] for i in at]).cpu().double()
        for i, x in zip(at, together.split([len(flats[i]) for i in at]), strict=True):
            found[i] = x
    return found

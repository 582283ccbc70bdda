"""What is known of one weight's step before it is read back: seven sums per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tangential.telemetry.block_rows import to_float64
from tangential.telemetry.watch_list import Watched

SUMS = ("ww", "dd", "wd", "gg", "wg", "mm", "wm")
"""`w` the weight before the step, `d` its change, `g` the gradient, `m` the momentum after the step."""


@dataclass(frozen=True, eq=False)
class Part:
    """One weight's share of a record, still on its device.

    Args:
        one: The weight.
        sums: `SUMS` of each measured block, `(7, blocks)`; NaN where there is nothing to sum.
        whole: `|w|^2` of the whole weight, 0-d.
        projected: Whether the step projects it; None if the optimizer does not say.
    """

    one: Watched
    sums: Tensor
    whole: Tensor
    projected: Tensor | bool | None = None

    @classmethod
    def empty(cls, one: Watched) -> Part:
        """The part of a weight without elements."""
        none = to_float64(torch.zeros((len(SUMS), 0), device=one.weight.device))
        return cls(one, none, none.sum())

    def flat(self) -> Tensor:
        """All numbers in a row, `(7 * blocks + 2,)`."""
        fired = self.projected if isinstance(self.projected, Tensor) else self.whole.new_full((), bool(self.projected))
        ends = [self.whole, fired.to(self.sums.dtype)]
        return torch.cat([self.sums.flatten(), torch.stack(ends)])


def gathered(parts: list[Part], extras: list[Tensor]) -> tuple[list[tuple[Part, Tensor, float, bool]], list[float]]:
    """Bring everything to the host: one transfer per device, which is one.

    Args:
        parts: What was measured.
        extras: Further 0-d tensors on any device.

    Returns:
        `(part, sums, whole, fired)` with the sums on the host, and the extras' values.
    """
    flats = [part.flat() for part in parts] + [to_float64(x.detach()).reshape(1) for x in extras]
    read = _read(flats)
    found = []
    for part, numbers in zip(parts, read, strict=False):
        whole, fired = numbers[-2:].tolist()
        found.append((part, numbers[:-2].view(len(SUMS), -1), whole, bool(fired)))
    return found, [float(x) for x in read[len(parts) :]]


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

"""One message per process group and step: the sums of all weights that its ranks share, added up in one all-reduce."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tangential.sharding.dependence import SharedSums

_DOUBLE = (torch.float64, torch.complex128)


class Message:
    """The sums that the ranks of one process group share in a step.

    Its form depends on the parameters alone, not on which of them have a gradient here: a rank without one sends zeros.

    Args:
        group_name: Name of the process group.
        device: The device of its mesh, which need not be that of the weights (CPU offload).
    """

    def __init__(self, group_name: str, device: torch.device) -> None:
        self.group_name = group_name
        self.device = device
        self.dtype = torch.float32
        self.starts: dict[SharedSums, int] = {}
        self._size = 0
        self._sums: Tensor | None = None

    def add(self, shared: SharedSums, dtype: torch.dtype) -> None:
        """Make room for the sums of a weight of this dtype."""
        self.starts[shared] = self._size
        self._size += shared.numbers
        self.dtype = torch.promote_types(self.dtype, torch.float64 if dtype in _DOUBLE else torch.float32)

    @property
    def nbytes(self) -> int:
        """Bytes that this rank sends."""
        return self._size * self.dtype.itemsize

    def write(self, places: Tensor, sums: Tensor) -> None:
        """Put sums into their places."""
        values = sums.to(device=self.device, dtype=self.dtype)
        self._sums = self._filled().index_copy(0, places.to(self.device).flatten(), values.flatten())

    def send(self) -> None:
        """Start the all-reduce; what follows on this device goes on meanwhile."""
        self._sums = torch.ops._c10d_functional.all_reduce(self._filled(), "sum", self.group_name)

    def _filled(self) -> Tensor:
        if self._sums is None:
            return torch.zeros(self._size, dtype=self.dtype, device=self.device)
        return self._sums

    def receive(self) -> None:
        """Wait for it, as far as the device has to."""
        self._sums = torch.ops._c10d_functional.wait_tensor(self._sums)

    def read(self, places: Tensor, like: Tensor) -> Tensor:
        """Sums over all ranks from their places, with dtype and device of `like`."""
        assert self._sums is not None, "it has been received"
        return self._sums[places.to(self.device)].to(device=like.device, dtype=like.dtype)


def messages(members: Sequence[tuple[Tensor, SharedSums]]) -> dict[str, Message]:
    """The messages of a step by process group, with room for all of these parameters, in their order."""
    found: dict[str, Message] = {}
    for p, shared in members:
        if shared.group_name not in found:
            found[shared.group_name] = Message(shared.group_name, _mesh_device(p))
        found[shared.group_name].add(shared, p.dtype)
    return found


def _mesh_device(p: Tensor) -> torch.device:
    kind = p.device_mesh.device_type  # type: ignore[attr-defined]
    if p.device.type == kind or kind == "cpu":
        return p.device
    return torch.device(kind, torch.accelerator.current_device_index())

"""Process groups of the ranks that hold the parts of one weight.

Along one mesh dimension, the mesh has the group. Along several, one is made, once. `DeviceMesh._flatten` would make it
too, but from then on torch gathers a DTensor that both dimensions split in one message, and in the wrong order where
its parts are uneven.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch.distributed as dist

_made: dict[tuple[int, ...], Any] = {}


def process_group(mesh: Any, dims: tuple[int, ...]) -> Any:
    """The ranks that differ from this one along these dimensions of a device mesh only.

    Every one of them has to call this, since a group may be made.
    """
    if len(dims) == 1:
        return mesh.get_group(dims[0])
    ranks = _ranks(mesh, dims)
    if len(ranks) == dist.get_world_size():
        return dist.group.WORLD
    group = _made.get(ranks)
    if group is None or not _is_alive(group):
        group = _made[ranks] = dist.new_group(list(ranks), use_local_synchronization=True)
    return group


@lru_cache(maxsize=64)
def _ranks(mesh: Any, dims: tuple[int, ...]) -> tuple[int, ...]:
    place = mesh.get_coordinate()
    index = tuple(slice(None) if i in dims else place[i] for i in range(mesh.ndim))
    return tuple(sorted(mesh.mesh[index].flatten().tolist()))


def _is_alive(group: Any) -> bool:
    """Whether the group was made since torch.distributed was initialised last."""
    try:
        dist.get_process_group_ranks(group)
    except (KeyError, ValueError, RuntimeError):
        return False
    return True

"""Messages and bytes of one step at scale, without the machines: `python benchmarks/scaling.py`.

Which sums ranks share follows from shapes and layouts alone, so the message of any number of ranks is known on one
process. Where the part of a rank fits this machine, the step is also taken by one rank of torch's fake process group,
and what it sends is counted; a difference ends the script. `tests/sharding/test_scaling.py` compares the same numbers
with those that two and four real ranks send.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import AdamP, Blocks
from tangential.sharding.dependence import SharedSums, dependence
from tangential.sharding.local_shard import LocalShard, shard_of

Weight = tuple[tuple[int, ...], Blocks | None, str]
"""Shape, static blocks, and how tensor parallelism splits it: "columns", "rows" or "none"."""

RANKS = (8, 64, 1024, 8192)
TENSOR_PARALLEL = 8
STEPPED = 20_000_000
"""Elements of a rank's part up to which the step is taken and counted."""


def resnet50() -> list[Weight]:
    """Convolutions before BatchNorm, invariant by channel."""
    with torch.device("meta"):
        net = torchvision.models.resnet50()
    return [(tuple(p.shape), Blocks() if p.ndim == 4 else None, "none") for p in net.parameters()]


def transformer() -> list[Weight]:
    """7 billion parameters: 32 layers of width 4096, queries and keys normalised in heads of 128."""
    width, hidden, words = 4096, 11008, 32000
    heads = Blocks(size=128)
    layer: list[Weight] = [
        ((width, width), heads, "columns"),
        ((width, width), heads, "columns"),
        ((width, width), None, "columns"),
        ((width, width), None, "rows"),
        ((hidden, width), None, "columns"),
        ((hidden, width), None, "columns"),
        ((width, hidden), None, "rows"),
        ((width,), None, "none"),
        ((width,), None, "none"),
    ]
    return [((words, width), None, "none"), *layer * 32, ((width,), None, "none"), ((words, width), None, "none")]


def placements(split: str, with_tensor_parallel: bool) -> tuple[Any, ...]:
    """As FSDP2 shards a weight, over tensor parallelism if asked."""
    if not with_tensor_parallel:
        return (Shard(0),)
    both = {
        "columns": (_StridedShard(0, split_factor=TENSOR_PARALLEL), Shard(0)),
        "rows": (Shard(0), Shard(1)),
        "none": (Shard(0), Replicate()),
    }
    return both[split]


def planned(shards: Sequence[tuple[LocalShard, Blocks | str | None]]) -> dict[tuple[int, ...], int]:
    """Bytes of the message of each set of mesh dimensions, in float32."""
    found: dict[tuple[int, ...], int] = {}
    for shard, blocks in shards:
        shared = dependence(shard, blocks)
        if isinstance(shared, SharedSums):
            found[shared.mesh_dims] = found.get(shared.mesh_dims, 0) + 4 * shared.numbers
    return found


class Sent(TorchDispatchMode):
    """Counts the bytes of every all-reduce."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "all_reduce" in str(func):
            self.messages.append(args[0].numel() * args[0].itemsize)
        return func(*args, **(kwargs or {}))


def counted(
    mesh: Any, weights: Sequence[Weight], layouts: Sequence[tuple[Any, ...]], blocks: Sequence[Any]
) -> list[int]:
    """Bytes of each message that one rank sends in a step."""
    groups = []
    for (shape, _, _), layout, cut in zip(weights, layouts, blocks, strict=True):
        local = shard_of(shape, layout, mesh).local_shape
        stride = torch.empty(shape, device="meta").stride()

        def spread(local: Tensor, layout: Any = layout, shape: Any = shape, stride: Any = stride) -> Tensor:
            return DTensor.from_local(local, mesh, layout, run_check=False, shape=torch.Size(shape), stride=stride)

        p = nn.Parameter(spread(torch.randn(local)))
        p.grad = spread(torch.randn(local))
        groups.append(dict(params=[p], blocks=cut))
    with Sent() as sent:
        AdamP(groups).step()
    return sent.messages


def rows(name: str, weights: Sequence[Weight], ranks: int, with_tensor_parallel: bool) -> list[tuple[Any, ...]]:
    """Lines of the table of one model and number of ranks."""
    shape = (ranks // TENSOR_PARALLEL, TENSOR_PARALLEL) if with_tensor_parallel else (ranks,)
    mesh = init_device_mesh("cpu", shape)
    layouts = [placements(split, with_tensor_parallel) for _, _, split in weights]
    shards = [shard_of(s, layout, mesh) for (s, _, _), layout in zip(weights, layouts, strict=True)]
    elements = sum(torch.Size(shard.local_shape).numel() for shard in shards)
    found = []
    for kind in ("static", "cosine"):
        blocks = [known if kind == "static" else "cosine" for _, known, _ in weights]
        plan = planned(list(zip(shards, blocks, strict=True)))
        steps = elements <= STEPPED
        if steps and (sent := counted(mesh, weights, layouts, blocks)) != list(plan.values()):
            raise SystemExit(f"{name}, {ranks} ranks, {kind}: {sent} bytes were sent, {plan} planned")
        layout = f"FSDP2 x TP {TENSOR_PARALLEL}" if with_tensor_parallel else "FSDP2"
        found.append((name, layout, ranks, kind, len(plan), sum(plan.values()), "counted" if steps else "planned"))
    return found


def table(ranks: Sequence[int]) -> list[tuple[Any, ...]]:
    """The lines of all models."""
    found = []
    for size in ranks:
        dist.init_process_group("fake", store=FakeStore(), rank=size // 3, world_size=size)
        for name, weights, parallel in (
            ("ResNet-50", resnet50(), False),
            ("transformer, 7B", transformer(), False),
            ("transformer, 7B", transformer(), True),
        ):
            found += rows(name, weights, size, parallel)
        dist.destroy_process_group()
    return sorted(found, key=lambda line: (line[:2], line[3]))


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    head = ("model", "layout", "ranks", "blocks", "messages", "bytes", "")
    lines = [head, ("---",) * len(head), *table(given.ranks)]
    text = "".join("| " + " | ".join(f"{x:,}" if isinstance(x, int) else x for x in line) + " |\n" for line in lines)
    sys.stdout.write(text)
    if given.out:
        command = f"python benchmarks/scaling.py --out {given.out}"
        given.out.write_text(f"One step of AdamP, what each rank sends. Made by `{command}`.\n\n{text}")


if __name__ == "__main__":
    main()

"""Bytes of the messages of a step, as `benchmarks/scaling.py` plans them and as they are sent."""

import importlib.util
from pathlib import Path

import torch

from support.sharded import SHAPES, blocks_for, mesh_of, placements_of
from tangential.sharding.local_shard import shard_of

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.py"


def planned_and_sent(layout, kind):
    """Sorted bytes of all messages."""
    spec = importlib.util.spec_from_file_location("scaling", SCRIPT)
    scaling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scaling)
    mesh = mesh_of(layout)
    layouts = [placements_of(layout, shape) for shape in SHAPES]
    blocks = [blocks_for(kind, torch.Size(shape)) for shape in SHAPES]
    # the script's own rule has no vectors and no uneven cuts in its models; these do
    shards = [shard_of(shape, placed, mesh) for shape, placed in zip(SHAPES, layouts, strict=True)]
    weights = [(shape, None, "none") for shape in SHAPES]
    sent = scaling.counted(mesh, weights, layouts, blocks)
    return sorted(scaling.planned(list(zip(shards, blocks, strict=True))).values()), sorted(sent)

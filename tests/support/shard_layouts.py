"""Where FSDP2, tensor parallelism and `distribute_tensor` put the parts of a weight."""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from tangential.sharding.local_shard import local_shard


def real_parts(rows):
    """The layouts of a matrix of so many rows in which this rank's part is not where `local_shard` finds it."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    truth = torch.arange(float(rows * 8)).view(rows, 8)
    found = []
    for style in (ColwiseParallel, RowwiseParallel):
        net = nn.Sequential(nn.Linear(8, rows, bias=False))
        net[0].weight.data.copy_(truth)
        parallelize_module(net, mesh["tp"], {"0": style()})
        fully_shard(net[0], mesh=mesh["dp"])
        found.append((style.__name__, net[0].weight))
    for placed in ((Shard(0), Shard(0)), (Shard(0), Shard(1)), (Replicate(), Shard(0)), (Shard(1), Shard(0))):
        found.append((str(placed), distribute_tensor(truth, mesh, placed)))
    return [name for name, p in found if not _is_there(p, truth)]


def _is_there(p, truth):
    shard = local_shard(p)
    part = truth[tuple(slice(*shard.span(dim)) for dim in range(truth.ndim))]
    return torch.equal(p.to_local(), part)

"""bfloat16 weights with remainders under sharding, beside the same steps in one process."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from support.sharded_nets import OPTIMIZERS
from tangential.backends import REMAINDER
from tangential.backends.remainders import master

PLACEMENTS = {"rows": Shard(0), "columns": Shard(1), "copies": Replicate()}


def half_steps(name, blocks, placement, compensation, steps=4):
    """The largest difference of any master, relative to its weight, and whether all weights are bit-equal."""
    cls, own = OPTIMIZERS[name]
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)
    alone = [torch.randn(s).bfloat16().requires_grad_() for s in ((6, 10), (7, 3, 2), (5, 8))]
    spread = [distribute_tensor(p.detach().clone(), mesh, [PLACEMENTS[placement]]).requires_grad_() for p in alone]
    optimizers = [cls(each, **own, blocks=blocks, compensation=compensation) for each in (alone, spread)]
    for _ in range(steps):
        for p, q in zip(alone, spread, strict=True):
            p.grad = torch.randn(p.shape).bfloat16()
            q.grad = distribute_tensor(p.grad.clone(), mesh, [PLACEMENTS[placement]])
        for optimizer in optimizers:
            optimizer.step()
    worst, equal = 0.0, True
    for p, q in zip(alone, spread, strict=True):
        whole = q.detach().full_tensor()
        equal &= torch.equal(p, whole)
        if compensation == "kahan":
            mine = master(q.detach().to_local(), optimizers[1].state[q][REMAINDER].to_local())
            right = master(p.detach(), optimizers[0].state[p][REMAINDER])
            right = distribute_tensor(right, mesh, q.placements, src_data_rank=None).to_local()
            worst = max(worst, float((mine - right).abs().max() / right.abs().max()))
        elif compensation == "auto":
            assert REMAINDER not in optimizers[1].state[q] and REMAINDER in optimizers[0].state[p]
        else:
            worst = max(worst, float((whole.float() - p.float()).abs().max() / p.float().abs().max()))
    return worst, equal

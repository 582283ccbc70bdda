"""ZeroRedundancyOptimizer: `torchrun --nproc-per-node 2 zero_redundancy.py`.

It deals whole parameters out to processes, so blocks stay whole. It cannot deal named groups: `names=False`.
"""

from pathlib import Path

import torch
import torch.distributed as dist
from problem import demo, images, loader, net
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = DistributedDataParallel(net())
    found = find_invariances(model, images[:8])
    optimizer = ZeroRedundancyOptimizer(found.param_groups(model, weight_decay=1e-2, names=False), AdamP, lr=1e-2)
    telemetry = watch(optimizer, every=2, names=model.named_parameters(), invariances=found)
    parts, start, data = {"model": model, "optimizer": optimizer, "telemetry": telemetry}, 0, loader().dataset
    if resume:
        saved = torch.load(folder / "zero.pt")
        start = saved["epoch"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for _ in range(start, epochs):
        for x, y in DataLoader(data, 8, sampler=DistributedSampler(data, shuffle=False)):
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    optimizer.consolidate_state_dict(to=0)
    if dist.get_rank() == 0:
        torch.save({"epoch": epochs, **{name: part.state_dict() for name, part in parts.items()}}, folder / "zero.pt")
    dist.barrier()
    return model.module, telemetry


if __name__ == "__main__":
    dist.init_process_group("gloo")
    demo(train)
    dist.destroy_process_group()

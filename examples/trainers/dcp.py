"""Distributed checkpoints (DCP): `torchrun --nproc-per-node 2 dcp.py`.

`get_state_dict` takes a step of length zero to make the optimizer's state, so `watch` comes after it.
"""

from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from problem import demo, images, loader, net
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = DistributedDataParallel(net())
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(model, weight_decay=1e-2), lr=1e-2)
    state, data = {"epoch": 0}, loader().dataset
    if resume:
        state["model"], state["optimizer"] = get_state_dict(model, optimizer)
        dcp.load(state, checkpoint_id=folder)
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    telemetry = watch(optimizer, every=2, names=model.named_parameters(), invariances=found)
    telemetry.go_on_from(4 * state["epoch"])  # four batches an epoch
    for _ in range(state["epoch"], epochs):
        for x, y in DataLoader(data, 8, sampler=DistributedSampler(data, shuffle=False)):
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    parts = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    dcp.save({"epoch": epochs, **parts}, checkpoint_id=folder)
    return model.module, telemetry


if __name__ == "__main__":
    dist.init_process_group("gloo")
    demo(train)
    dist.destroy_process_group()

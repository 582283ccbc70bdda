"""A net trained by Accelerate under FSDP2, saved, loaded and trained on, beside the same net in one process."""

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from support.sharded_nets import OPTIMIZERS, Net, backward, whole
from tangential import find_invariances

STEPS = 6


def accelerated(name, folder):
    """How far the net of the run that went on from its checkpoint is from that of one process, and what it holds."""
    alone, step = made(name)
    for number in range(STEPS):
        backward(alone, number, torch.float64, 1, 0)
        step.step()
        step.zero_grad()
    trained(name, folder, range(STEPS // 2))
    model = trained(name, folder, range(STEPS // 2, STEPS), resume=True)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    pairs = list(zip(alone.parameters(), model.parameters(), Net().double().parameters(), strict=True))
    return max(float((p - whole(q)).abs().max()) for p, q, _ in pairs), min(
        float((p - s).abs().max()) for p, _, s in pairs
    )


def made(name):
    """The net, and the optimizer over the groups of the detector."""
    net = Net().double()
    cls, own = OPTIMIZERS[name]
    found = find_invariances(net, torch.randn(4, 12, dtype=torch.float64))
    return net, cls(found.param_groups(weight_decay=0.1), **{**own, "weight_decay": 0.0})


def trained(name, folder, steps, resume=False):
    """The sharded net after some steps from the start, or from the checkpoint in the folder, which is then written."""
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap", cpu_ram_efficient_loading=False)
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    # on a CPU Accelerate replicates whatever the plugin asks for; its code for devices shards there as well
    for state in (PartialState(), accelerator.state):
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    try:
        model, optimizer = accelerator.prepare(*made(name))
        if resume:
            accelerator.load_state(folder)
        for number in steps:
            backward(model, number, torch.float64, accelerator.num_processes, accelerator.process_index)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.save_state(folder)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return model

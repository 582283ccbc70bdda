"""Optimizer in backward: each gradient is used and freed as soon as it is there.

An optimizer for every parameter is stepped by a hook on its gradient: the four lines from `optimizers = ` on. The
steps are those of one optimizer, since nothing in SGDP or AdamP reaches across parameters. The gradients of a model
never lie side by side, so where weights outweigh activations AdamP needs at its peak 2.1 times the memory of the
weights beside them, for its two moments, instead of 3.0 (`python benchmarks/gradient_release.py`, 24 matrices of 1024
x 1024 on a CPU). Accumulation, and clipping by the norm of all gradients, need all gradients at once and cannot go with
it.
"""

from pathlib import Path

import torch
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = net()
    groups = find_invariances(model, images[:8]).param_groups(weight_decay=1e-2)
    optimizers = {
        p: AdamP([{**g, "params": [p], "param_names": [name]}], lr=1e-2)
        for g in groups
        for name, p in zip(g["param_names"], g["params"], strict=True)
    }
    for p in optimizers:
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step() or optimizers[p].zero_grad())
    telemetry = watch(optimizers[model[0].weight], every=2)
    parts = {"model": model, "telemetry": telemetry, **{str(i): o for i, o in enumerate(optimizers.values())}}
    if resume:
        saved = torch.load(folder / "checkpoint.pt")
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for _ in range(telemetry.step // len(loader()), epochs):
        for x, y in loader():
            cross_entropy(model(x), y).backward()
    torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "checkpoint.pt")
    return model, telemetry


if __name__ == "__main__":
    demo(train)

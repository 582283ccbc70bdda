"""A loop of your own, with `torch.save` and the defaults of `torch.load`.

Everything in the checkpoint is a plain value, so `torch.load` needs no `weights_only=False`.
"""

from pathlib import Path

import torch
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    telemetry = watch(optimizer, every=2)
    parts = {"model": model, "optimizer": optimizer, "telemetry": telemetry}
    start = 0
    if resume:
        saved = torch.load(folder / "checkpoint.pt")
        start = saved["epoch"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for _ in range(start, epochs):
        for x, y in loader():
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"epoch": epochs, **states}, folder / "checkpoint.pt")
    return model, telemetry


if __name__ == "__main__":
    demo(train)

"""Lightning Fabric.

The optimizer is made before `setup`. Fabric's wrapper of the model puts `_forward_module.` in front of every name,
which means the same weight here.
"""

from pathlib import Path

from lightning.fabric import Fabric
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    fabric = Fabric(**settings)
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    model, optimizer = fabric.setup(model, optimizer)
    batches = fabric.setup_dataloaders(loader())
    telemetry = watch(optimizer, every=2, names=model.named_parameters(), invariances=found)
    state = {"model": model, "optimizer": optimizer, "telemetry": telemetry, "epoch": 0}
    if resume:
        fabric.load(folder / "fabric.ckpt", state)
    for _ in range(state["epoch"], epochs):
        for x, y in batches:
            fabric.backward(cross_entropy(model(x), y))
            optimizer.step()
            optimizer.zero_grad()
    fabric.save(folder / "fabric.ckpt", {**state, "epoch": epochs})
    return model.module, telemetry


if __name__ == "__main__":
    demo(train)

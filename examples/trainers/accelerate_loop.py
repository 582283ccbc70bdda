"""Accelerate.

`register_for_checkpointing` takes the telemetry, since it has `state_dict` and `load_state_dict`.
"""

from pathlib import Path

from accelerate import Accelerator
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    accelerator = Accelerator(**settings)
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    model, optimizer, batches = accelerator.prepare(model, optimizer, loader())
    telemetry = watch(optimizer, every=2, names=model.named_parameters(), invariances=found)
    accelerator.register_for_checkpointing(telemetry)
    start = 0
    if resume:
        accelerator.load_state(folder)
        start = telemetry.step // len(batches)
    for _ in range(start, epochs):
        for x, y in batches:
            with accelerator.accumulate(model):
                accelerator.backward(cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
    accelerator.save_state(folder)
    return accelerator.unwrap_model(model), telemetry


if __name__ == "__main__":
    demo(train)

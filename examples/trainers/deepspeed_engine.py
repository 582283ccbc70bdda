"""DeepSpeed without ZeRO, stage 0: `deepspeed deepspeed_engine.py`, or a single process as here.

Stages 1 to 3 exchange the parameters of a group for flat vectors, in which there are no blocks: the first step says
so.
"""

import os
from pathlib import Path

import deepspeed
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch

ALONE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def train(folder: Path, epochs: int, resume: bool = False, stage: int = 0):
    os.environ.update({name: value for name, value in ALONE.items() if name not in os.environ})
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    config = {"train_batch_size": 16, "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True}
    config["zero_force_ds_cpu_optimizer"] = False
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    telemetry = watch(optimizer, every=2)
    if resume:
        _, saved = engine.load_checkpoint(folder)
        telemetry.load_state_dict(saved["telemetry"])
    for _ in range(telemetry.step // len(loader()), epochs):
        for x, y in loader():
            engine.backward(cross_entropy(engine(x.to(engine.device)), y.to(engine.device)))
            engine.step()
    engine.save_checkpoint(folder, client_state={"telemetry": telemetry.state_dict()})
    return model, telemetry


if __name__ == "__main__":
    demo(train)

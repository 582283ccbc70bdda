"""PyTorch-Ignite.

`Checkpoint` takes model, optimizer, engine and telemetry alike.
"""

from pathlib import Path

from ignite.engine import Events, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    telemetry = watch(optimizer, every=2)
    engine = create_supervised_trainer(model, optimizer, cross_entropy)
    parts = {"model": model, "optimizer": optimizer, "engine": engine, "telemetry": telemetry}
    saver = Checkpoint(parts, DiskSaver(folder, require_empty=False), filename_pattern="last.pt")
    engine.add_event_handler(Events.COMPLETED, saver)
    if resume:
        Checkpoint.load_objects(parts, checkpoint=folder / "last.pt")
    engine.run(loader(), max_epochs=epochs)
    return model, telemetry


if __name__ == "__main__":
    demo(train)

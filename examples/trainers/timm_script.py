"""timm's `create_optimizer_v2`, schedules and checkpoints.

`import tangential.timm` adds the names `tangentialadamp` and `tangentialsgdp` to timm's registry; timm's `train.py`
does so with `--device-modules tangential.timm --opt tangentialadamp`, and groups by decay alone, under the paper's
cosine test. timm takes what follows the last underscore of a name: `tangential_adamp` is timm's own AdamP.
"""

from argparse import Namespace
from pathlib import Path

from problem import demo, images, loader, net
from timm.models import resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver
from torch.nn.functional import cross_entropy

import tangential.timm  # noqa: F401  fills the registry
from tangential import find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = net()
    found = find_invariances(model, images[:8])
    optimizer = create_optimizer_v2(found.param_groups(weight_decay=1e-2), "tangentialadamp", lr=1e-2)
    telemetry = watch(optimizer, every=2)
    start = resume_checkpoint(model, str(folder / "last.pth.tar"), optimizer=optimizer) if resume else 0
    telemetry.go_on_from(start * len(loader()))
    saver = CheckpointSaver(model, optimizer, Namespace(model="net"), checkpoint_dir=folder, recovery_dir=folder)
    for epoch in range(start, epochs):
        for x, y in loader():
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        saver.save_checkpoint(epoch)
    return model, telemetry


if __name__ == "__main__":
    demo(train)

"""Run folders and event files as training writes them, without training; and what a report page holds."""

import json
import re

from torch.utils.tensorboard import SummaryWriter

from tangential.experiments.runs.folder import RunFolder

COMPARED = {"sgd": None, "sgdp": "sgd"}


def write_run(out, optimizer, seed, accuracies, *, epochs=None, compared=COMPARED, norm=1.0, **settings):
    run = RunFolder(out / f"run-{len(list(out.glob('*')))}")
    settings = {"recipe": "digits", "optimizer": optimizer, "seed": seed, "compared": compared} | settings
    settings |= {"epochs": epochs or len(accuracies), "made_by": {"arguments": {"lr": 0.1}}}
    run.start(settings, {"command": "tangential train digits", "torch": "2.14"})
    for epoch, accuracy in enumerate(accuracies, start=1):
        numbers = {"weight_norm": norm * epoch, "effective_step": 0.1 / epoch, "ms_per_step": 2.0 + epoch}
        run.append({"epoch": epoch, "train_loss": 1 / epoch, "test_accuracy": accuracy} | numbers)
    return run


def data(html):
    """What the page's own code draws, as it stands in the page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


def log(folder, scalars, **more):
    with SummaryWriter(folder, **more) as writer:
        for tag, values in scalars.items():
            for step, value in enumerate(values):
                writer.add_scalar(tag, value, 10 * step)
    return folder

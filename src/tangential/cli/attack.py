"""The command `attack`: the robust accuracy of a trained classifier under AutoAttack."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

from tangential.cli.options import THREADS, Debug, Threads, path
from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.adversarial import Adversarial
from tangential.experiments.tasks.autoattack import robust_accuracy
from tangential.experiments.viewers.trained_model import trained

BATCH = 50


class Version(str, Enum):
    """Versions of AutoAttack: which attacks, and how often they start anew."""

    standard = "standard"
    plus = "plus"
    rand = "rand"


def attack(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/cifar10-adversarial-l2/adamp-seed0")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many images of the test set.")] = 200,
    version: Annotated[Version, typer.Option(help="Version of AutoAttack; rand is for models with randomness.")] = (
        Version.standard
    ),
    threads: Threads = THREADS,
    debug: Debug = False,
) -> None:
    """Measure the accuracy of an adversarially trained model under AutoAttack, in the norm and radius of its run."""
    torch.set_num_threads(threads)
    task, model = trained(RunFolder(run), Adversarial, "is not trained to be robust against attacks")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model, ball, terminal = model.to(device), task.evaluation, console()
    print_line(terminal, f"AutoAttack ({version.value}), {ball.norm}, radius {ball.radius:.4g}")
    robust, done = 0.0, 0
    for images, classes in task.batches("test", batch_size=BATCH):
        images, classes = images[: count - done].to(device), classes[: count - done].to(device)
        robust += len(images) * robust_accuracy(model, [(images, classes)], ball, version=version.value)
        done += len(images)
        if not robust >= 0:
            raise FloatingPointError("a logit of the model is not finite; the run has diverged")
        print_line(terminal, f"robust accuracy {100 * robust / done:.2f} % of {done:,} images")
        if done >= count:
            break

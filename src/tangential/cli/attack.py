"""The command `attack`: the robust accuracy of a trained classifier under AutoAttack."""

from __future__ import annotations

from pathlib import Path

import torch

from tangential.cli.terminal import console, print_line
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.adversarial import Adversarial
from tangential.experiments.tasks.autoattack import robust_accuracy
from tangential.experiments.viewers.trained_model import trained

BATCH = 50


def attack(*, run: Path, count: int, version: str, threads: int) -> None:
    """Measure the accuracy of an adversarially trained model under AutoAttack, in the norm and radius of its run."""
    torch.set_num_threads(threads)
    task, model = trained(RunFolder(run), Adversarial, "is not trained to be robust against attacks")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model, ball, terminal = model.to(device), task.evaluation, console()
    print_line(terminal, f"AutoAttack ({version}), {ball.norm}, radius {ball.radius:.4g}")
    robust, done = 0.0, 0
    for images, classes in task.batches("test", batch_size=BATCH):
        images, classes = images[: count - done].to(device), classes[: count - done].to(device)
        robust += len(images) * robust_accuracy(model, [(images, classes)], ball, version=version)
        done += len(images)
        if not robust >= 0:
            raise FloatingPointError("a logit of the model is not finite; the run has diverged")
        print_line(terminal, f"robust accuracy {100 * robust / done:.2f} % of {done:,} images")
        if done >= count:
            break

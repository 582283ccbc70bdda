"""Arguments of the command `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from tangential.cli.options import THREADS, Debug, Threads
from tangential.experiments.viewers.model_forms import FORMS


def doctor(
    model: Annotated[str, typer.Argument(metavar="SPEC", help=FORMS)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Arguments of the model: num_classes=10")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="SHAPE", help="Shape of the example batch: 4x3x64x64, or 2x24 tokens.")
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="What you train with: adamw or sgd.")] = "adamw",
    lr: Annotated[float | None, typer.Option(help="Its learning rate. [default: torch's]")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Its weight decay. [default: torch's]")] = None,
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.0,
    steps: Annotated[int, typer.Option(min=0, help="Train for N steps on --data and watch the norms.")] = 0,
    data: Annotated[
        str | None, typer.Option(metavar="FILE.py:FUNCTION", help="Returns batches: (inputs, targets), or dicts.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="FILE.py:FUNCTION", help="Loss, called with the model and a batch.")
    ] = None,
    threads: Threads = THREADS,
    debug: Debug = False,
) -> None:
    """Should I use it? What SGDP or AdamP would project in a model, what changes, and the code.

    Examples:
      tangential doctor torchvision:resnet50 --batch 4x3x64x64 --optimizer sgd --lr 0.1 --momentum 0.9
      tangential doctor nets.py:build --lr 3e-4 --weight-decay 0.05
      tangential doctor nets.py:build --steps 100 --data nets.py:batches
    """
    from tangential.cli import doctor as command

    command.doctor(
        model=model,
        settings=settings,
        batch=batch,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        steps=steps,
        data=data,
        loss=loss,
        threads=threads,
    )

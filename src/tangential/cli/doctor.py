"""The command `doctor`: whether a projected optimizer is for this model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from tangential.cli.options import THREADS, Debug, Threads
from tangential.cli.terminal import bullets, console, print_line, table
from tangential.experiments.viewers.baseline import Baseline
from tangential.experiments.viewers.diagnosis import Diagnosis, diagnose
from tangential.experiments.viewers.diagnosis_text import Section, code, sections, verdict_sentence
from tangential.experiments.viewers.model_spec import FORMS, function_in, load, parse_settings, parse_shape
from tangential.experiments.viewers.norm_growth import default_loss


def doctor(
    model: Annotated[str, typer.Argument(metavar="SPEC", help=FORMS)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Arguments of the model: num_classes=10")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="SHAPE", help="Shape of the example batch: 4x3x64x64, or 2x24 tokens.")
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="What you train with: adamw or sgd.")] = "adamw",
    lr: Annotated[float | None, typer.Option(help="Its learning rate; torch's default.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Its weight decay; torch's default.")] = None,
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
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    baseline = Baseline(optimizer, lr, weight_decay, momentum)  # type: ignore[arg-type]
    if bool(steps) != bool(data):
        raise ValueError("--steps and --data need each other: N steps are taken on the batches of the data")
    loss_of = _function(loss) if loss else default_loss
    batches = _Batches(_function(data)) if data else None
    subject = load(model, parse_settings(settings or []), parse_shape(batch) if batch else None)
    terminal = console()
    with terminal.status("Looking for scale-invariant weights"):
        diagnosis = diagnose(subject, baseline, batches=batches, steps=steps, loss=loss_of)
    _print(terminal, model, diagnosis)


class _Batches:
    """The batches that a function returns, which is called again for each pass over them."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        return iter(self._function())


def _function(spec: str) -> Callable[..., Any]:
    path, colon, name = spec.rpartition(":")
    if not colon:
        raise ValueError(f"{spec}: must be FILE.py:FUNCTION")
    return function_in(Path(path).expanduser(), name)


def _print(terminal: Console, title: str, diagnosis: Diagnosis) -> None:
    print_line(terminal, title, style="dim")
    terminal.print(verdict_sentence(diagnosis), style="bold")
    for section in sections(diagnosis):
        _print_section(terminal, section)
    terminal.print("\nCode to paste", style="bold")
    for line in code(diagnosis).splitlines():
        print_line(terminal, line)


def _print_section(terminal: Console, section: Section) -> None:
    terminal.print(f"\n{section.heading}", style="bold")
    if section.sentences:
        terminal.print(bullets(section.sentences))
    if section.rows:
        terminal.print(table(("parameters", "projected", "weights", "share"), section.rows, left=(1,)))

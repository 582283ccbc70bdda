"""The command `doctor`: whether a projected optimizer is for this model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tangential.cli.terminal import bullets, console, print_line, table
from tangential.experiments.viewers.baseline import Baseline
from tangential.experiments.viewers.diagnosis import Diagnosis, diagnose
from tangential.experiments.viewers.diagnosis_text import Section, code, sections, verdict_sentence
from tangential.experiments.viewers.model_spec import function_in, load, parse_settings, parse_shape
from tangential.experiments.viewers.norm_growth import default_loss


def doctor(
    *,
    model: str,
    settings: list[str] | None,
    batch: str | None,
    optimizer: str,
    lr: float | None,
    weight_decay: float | None,
    momentum: float,
    steps: int,
    data: str | None,
    loss: str | None,
    threads: int,
) -> None:
    """Should I use it? What SGDP or AdamP would project in a model, what changes, and the code."""
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

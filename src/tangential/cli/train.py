"""The command `train`: the runs of a recipe, one after the other, and their report."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tangential.cli.options import command_line
from tangential.cli.progress import Display
from tangential.cli.report import show
from tangential.cli.terminal import console
from tangential.experiments.recipes import Recipe, choose
from tangential.experiments.recipes.jobs import Job, jobs
from tangential.experiments.report.comparison import gather_folders
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.files import make_folder
from tangential.experiments.training.devices import from_first, start, where
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loggers import check_loggers
from tangential.experiments.training.signals import Stop


def train(
    *,
    recipe: str,
    overrides: list[str] | None,
    seeds: int | None,
    only: list[str] | None,
    out: Path | None,
    smoke: bool,
    devices: int | None,
    nodes: int | None,
    strategy: str,
    accelerator: str,
    precision: str | None,
    threads: int,
    checkpoint_every: float,
    logger: list[str] | None,
) -> None:
    """Train a recipe (or resume it) and write a report.

    The same command again resumes interrupted runs and skips finished ones.
    """
    started = time.monotonic()
    chosen = choose(recipe, overrides or [], smoke=smoke)
    if seeds is not None:
        chosen = replace(chosen, seeds=seeds)
    if precision is not None:
        chosen = replace(chosen, options=replace(chosen.options, precision=precision))
    out = out or Path("runs") / (f"{recipe}-smoke" if smoke else recipe)
    loggers = logger or ["tensorboard"]
    check_loggers(loggers)
    torch.set_num_threads(threads)
    fabric = start(
        devices=devices, nodes=nodes, strategy=strategy, accelerator=accelerator, precision=chosen.options.precision
    )
    try:
        todo = from_first(fabric, lambda: _jobs(chosen, out, only or []))
        terminal = console(quiet=not fabric.is_global_zero)
        finished = sum(not job.left for job in todo)
        if finished:
            terminal.print(f"{finished} of {len(todo)} runs are finished already")
        with Display(terminal, todo) as display, Stop() as stop:
            options = {"fabric": fabric, "stop": stop, "minutes": checkpoint_every, "loggers": loggers}
            diverged = [_train_job(job, display, options) for job in todo if job.left]
            stop.check()
        failures = list(filter(None, diverged))
        terminal.print(f"{len(diverged) - len(failures)} runs in {time.monotonic() - started:.0f} s")
        if fabric.is_global_zero and len(failures) < len(todo):
            show(terminal, gather_folders([out]), out)
        if failures:
            more = f"; {len(failures) - 1} more runs diverged" if len(failures) > 1 else ""
            raise FloatingPointError(failures[0] + more)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _jobs(recipe: Recipe, out: Path, only: list[str]) -> list[Job]:
    todo = jobs(recipe, out, only)
    make_folder(out)
    return todo


def _train_job(job: Job, display: Display, options: dict[str, Any]) -> str:
    """Train a run; what went wrong if it diverged, which does not end the others, else an empty text."""
    machine = {**environment(command=command_line(), threads=torch.get_num_threads()), **where(options["fabric"])}
    opened = {"settings": job.settings, "environment": machine}
    try:
        for record in fit(job.plan, job.folder, **opened, **options, progress=partial(display.step, job)):
            display.epoch(job, record)
    except FloatingPointError as error:
        display.diverged(job, str(error))
        return f"{job.optimizer}, seed {job.seed}: {error}"
    return ""

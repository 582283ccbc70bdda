"""The command `train`: the runs of a recipe, one after the other, and their report."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tangential.cli.options import THREADS, Debug, Smoke, Threads, command_line, path
from tangential.cli.progress import Display
from tangential.cli.report import show
from tangential.cli.terminal import console
from tangential.experiments.recipes import Recipe, choose
from tangential.experiments.recipes.jobs import Job, jobs
from tangential.experiments.report.comparison import gather_folders
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.files import make_folder
from tangential.experiments.training.devices import from_first, start, where
from tangential.experiments.training.fit import MINUTES, fit
from tangential.experiments.training.loggers import check_loggers
from tangential.experiments.training.signals import Stop


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; see `tangential recipes`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Settings to change: optimizers.sgd.lr=0.05")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds of each optimizer.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="OPTIMIZER", help="Train only this one; may be repeated; all of them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the runs and the report; runs/RECIPE.")
    ] = None,
    smoke: Smoke = False,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes on this machine, one per device; 1.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; 1.")] = None,
    strategy: Annotated[str, typer.Option(help="ddp splits each batch among the processes; auto.")] = "auto",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps; auto takes the fastest there is.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="32, 64, bf16-mixed, 16-mixed; the recipe's.")] = None,
    threads: Threads = THREADS,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="Minutes between checkpoints within an epoch.")
    ] = MINUTES,
    logger: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, csv or none; may be repeated; tensorboard.")
    ] = None,
    debug: Debug = False,
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

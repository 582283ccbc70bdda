"""The command `train`: the runs of a recipe, one after the other or by several processes, and their report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from tangential.cli.options import command_line
from tangential.cli.progress import Display
from tangential.cli.report import show
from tangential.cli.terminal import console
from tangential.cli.workers import workers as workers_of
from tangential.experiments.engines import Engine
from tangential.experiments.engines.workers import Workers
from tangential.experiments.recipes import Recipe, choose
from tangential.experiments.recipes.jobs import Job, is_finished, jobs
from tangential.experiments.report.comparison import gather_folders
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.files import make_folder
from tangential.experiments.runs.sharing import left_to_workers, share
from tangential.experiments.training.devices import from_first, start, where
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loggers import check_loggers
from tangential.experiments.training.signals import Stop, Stopped

if TYPE_CHECKING:
    from lightning.fabric import Fabric


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
    workers: int,
    engine: Engine,
    per_worker: str,
    worker: int | None,
) -> None:
    """Train a recipe (or resume it) and write a report.

    The same command again resumes interrupted runs and skips finished ones.
    """
    started = time.monotonic()
    chosen = _chosen(choose(recipe, overrides or [], smoke=smoke), seeds, precision)
    out = out or Path("runs") / (f"{recipe}-smoke" if smoke else recipe)
    loggers = logger or ["tensorboard"]
    check_loggers(loggers)
    torch.set_num_threads(threads)
    crew = workers_of(engine, workers, per_worker=per_worker, out=out, worker=worker, devices=devices)
    asked = {"devices": devices, "nodes": nodes, "strategy": strategy, "accelerator": accelerator}
    fabric = start(**asked, precision=chosen.options.precision) if crew.trains else start(accelerator="cpu")
    try:
        todo = from_first(fabric, lambda: _jobs(chosen, out, only or [], again=worker is None))
        terminal = console(quiet=worker is not None or not fabric.is_global_zero)
        left = [job for job in todo if job.left]
        if len(left) < len(todo):
            terminal.print(f"{len(todo) - len(left)} of {len(todo)} runs are finished already")
        with Display(terminal, todo) as display, Stop() as stop, crew as others:
            options = {"fabric": fabric, "stop": stop, "minutes": checkpoint_every, "loggers": loggers}
            run = partial(_train_job, display=display, options=options) if others.trains else left_to_workers
            if worker is None and not others.count:
                for job in left:
                    run(job)
                stop.check()
            else:
                others.start()
                _share(left, run, display, partial(_check, fabric, stop, others), fabric)
        if worker is None:
            failures = [f"{job.optimizer}, seed {job.seed}: {why}" for job in left if (why := job.folder.diverged())]
            terminal.print(f"{len(left) - len(failures)} runs in {time.monotonic() - started:.0f} s")
            _conclude(terminal, out, failures, shown=fabric.is_global_zero and len(failures) < len(todo))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _chosen(recipe: Recipe, seeds: int | None, precision: str | None) -> Recipe:
    """The recipe with what options of the command say."""
    if precision is not None:
        recipe = replace(recipe, options=replace(recipe.options, precision=precision))
    return recipe if seeds is None else replace(recipe, seeds=seeds)


def _conclude(terminal: Console, out: Path, failures: Sequence[str], *, shown: bool) -> None:
    """Show the report of the runs.

    Raises:
        FloatingPointError: Runs diverged.
    """
    if shown:
        show(terminal, gather_folders([out]), out)
    if failures:
        more = f"; {len(failures) - 1} more runs diverged" if len(failures) > 1 else ""
        raise FloatingPointError(failures[0] + more)


def _jobs(recipe: Recipe, out: Path, only: list[str], *, again: bool) -> list[Job]:
    """The runs; those that diverged under an earlier command are tried again."""
    todo = jobs(recipe, out, only)
    make_folder(out)
    for job in todo if again else ():
        job.folder.try_again()
    return todo


def _train_job(job: Job, *, display: Display, options: dict[str, Any]) -> None:
    """Train a run; if it diverges, that is recorded, and does not end the others."""
    machine = {**environment(command=command_line(), threads=torch.get_num_threads()), **where(options["fabric"])}
    opened = {"settings": job.settings, "environment": machine}
    try:
        for record in fit(job.plan, job.folder, **opened, **options, progress=partial(display.step, job)):
            display.epoch(job, record)
    except FloatingPointError as error:
        reason = str(error)
        from_first(options["fabric"], lambda: job.folder.mark_diverged(reason))
        display.diverged(job, reason)


def _share(
    left: list[Job], train: Callable[[Job], None], display: Display, check: Callable[[], None], fabric: Fabric
) -> None:
    """Train runs together with other processes; every process of a run decides as its first one does."""
    share(
        left,
        finished=lambda job: from_first(fabric, lambda: bool(job.folder.diverged()) or is_finished(job)),
        train=train,
        check=check,
        seen=display.elsewhere,
    )


def _check(fabric: Fabric, stop: Stop, others: Workers) -> None:
    """Raise in every process of a run what its first one has met: a signal, or a worker that failed."""

    def met() -> int:
        others.check()
        return stop.signum

    if signum := from_first(fabric, met):
        raise Stopped(signum)

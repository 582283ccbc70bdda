"""The command line: the only place that prints, and where every failure becomes one line and an exit code.

0 done · 1 a run failed · 2 bad use or bad input · 130 interrupted, 143 terminated: the run can be resumed
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import torch
import typer
from rich.console import Console
from rich.text import Text

from tangential import __version__
from tangential.cli.inquiries import THREADS, Debug, inspect, theory, toy
from tangential.cli.neighbours import neighbours
from tangential.cli.predict import predict
from tangential.cli.progress import Display
from tangential.cli.report import report, show
from tangential.cli.sweep import sweep
from tangential.experiments.recipes.jobs import Job, jobs
from tangential.experiments.report.comparison import gather
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.folder import find, make_folder
from tangential.experiments.training.devices import from_first, start, where
from tangential.experiments.training.fit import MINUTES, fit
from tangential.experiments.training.loggers import check_loggers, log_record, open_loggers
from tangential.experiments.training.signals import Stop, Stopped

if TYPE_CHECKING:
    from tangential.experiments.recipes import Recipe

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer brings its own click or takes the one that is installed

app = typer.Typer(
    help="Train on scale-invariant weights with SGDP and AdamP, beside the optimizers they project.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def run() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows no arrows gets "?"
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except (Exception, Stopped) as error:
        message, code = _explained(error)
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        rank = os.environ.get("RANK", "0")
        who = "tangential" if rank == "0" else f"tangential (process {rank})"
        sys.stderr.write(f"{who}: {' '.join(message.split())}\n")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    raise SystemExit(code or 0)


def _explained(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    match error:
        case Stopped():
            resume = f"; to resume: {_command()}" if sys.argv[1:2] in (["train"], ["sweep"]) else ""
            return f"{error}{resume}", error.code
        case typer.Abort():
            return "interrupted", 130
        case _UsageError():
            return f"{error.format_message().rstrip('.')}; see tangential --help", 2
        case OSError():
            return f"{error.filename or 'input or output'}: {error.strerror or error}", 2
        case ValueError():
            return str(error), 2
        case FloatingPointError():
            return str(error), 1
        case _:
            return f"{type(error).__name__}: {error}; run again with --debug to see where", 1


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(signum)


def _print_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"tangential {__version__}", highlight=False)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        Console().print(context.get_help(), highlight=False, markup=False)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="What to run; see `tangential recipes`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Settings to change: optimizers.sgd.lr=0.05")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Train each optimizer from this many seeds.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="OPTIMIZER", help="Train this one; may be repeated; all of them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs and the report; runs/RECIPE if not given.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that all works.")] = False,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes on this machine, one to a device; 1.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; 1.")] = None,
    strategy: Annotated[str, typer.Option(help="ddp shares each batch among the processes; auto.")] = "auto",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps; auto takes the best there is.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="32, 64, bf16-mixed, 16-mixed; the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = THREADS,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="How often to save within an epoch.")
    ] = MINUTES,
    logger: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, csv or none; may be repeated; tensorboard.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train a recipe, or go on with it, and report: a table, a page, plots.

    Running the same command again resumes what was stopped and skips what is finished.
    """
    started = time.monotonic()
    from tangential.experiments.recipes import choose  # their libraries take seconds that other commands need not wait

    chosen = choose(recipe, overrides or [], smoke=smoke)
    given = {name: value for name, value in {"seeds": seeds, "precision": precision}.items() if value is not None}
    chosen = replace(chosen, **given)
    out = out or Path("runs") / (f"{recipe}-smoke" if smoke else recipe)
    loggers = logger or ["tensorboard"]
    check_loggers(loggers)
    torch.set_num_threads(threads)
    fabric = start(devices=devices, nodes=nodes, strategy=strategy, accelerator=accelerator, precision=chosen.precision)
    todo = from_first(fabric, lambda: _jobs(chosen, out, only or []))
    console = Console(quiet=not fabric.is_global_zero)
    finished = sum(not job.left for job in todo)
    if finished:
        console.print(f"{finished} of {len(todo)} runs are finished already", highlight=False)
    with Display(console, todo) as display, Stop() as stop:
        for job in todo:
            if job.left:
                way = {"fabric": fabric, "stop": stop, "minutes": checkpoint_every}
                _train_job(job, display, loggers if fabric.is_global_zero else [], way)
    console.print(f"{len(todo) - finished} runs in {time.monotonic() - started:.0f} s", highlight=False)
    if fabric.is_global_zero:
        show(console, gather(find([out])), out)


@app.command()
def recipes() -> None:
    """List the recipes."""
    from tangential.experiments.recipes import RECIPES

    width = max(map(len, RECIPES))
    for name, each in RECIPES.items():
        Console().print(Text.assemble((f"{name:<{width}}  ", "bold"), each.about), soft_wrap=True)


for command in (report, inspect, sweep, theory, toy, predict, neighbours):
    app.command()(command)


def _jobs(recipe: Recipe, out: Path, only: list[str]) -> list[Job]:
    todo = jobs(recipe, out, only)
    make_folder(out)
    return todo


def _train_job(job: Job, display: Display, loggers: list[str], way: dict[str, Any]) -> None:
    fabric = way["fabric"]
    machine = {**environment(command=_command(), threads=torch.get_num_threads()), **where(fabric)}
    from_first(fabric, lambda: job.folder.start(job.settings, machine))
    try:
        with open_loggers(loggers, job.folder, job.done) as opened:
            for record in fit(job.plan, job.folder, **way, progress=partial(display.step, job)):
                display.epoch(job, record)
                log_record(opened, record)
    except FloatingPointError as error:
        raise FloatingPointError(f"{job.optimizer}, seed {job.seed}: {error}") from error


def _command() -> str:
    return shlex.join(["tangential", *sys.argv[1:]])

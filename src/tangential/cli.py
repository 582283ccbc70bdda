"""The command line: the only place that prints, and where every failure becomes one line and an exit code.

0 done · 1 a run failed · 2 bad use or bad input · 130 interrupted, 143 terminated: the run can be resumed
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tangential import __version__
from tangential.display import Display
from tangential.inquiries import THREADS, Debug, inspect, theory, toy
from tangential.jobs import Job, jobs
from tangential.neighbours import neighbours
from tangential.overrides import override
from tangential.predictions import predict
from tangential.provenance import environment
from tangential.recipes import RECIPES, Recipe
from tangential.report.groups import gather
from tangential.reporting import report, show
from tangential.runs import find, make_folder
from tangential.train import fit

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer brings its own click or takes the one that is installed

app = typer.Typer(
    help="Train on scale-invariant weights with SGDP and AdamP, beside the optimizers they project.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Stopped(BaseException):
    """A run was told to stop; it can be resumed.

    Args:
        message: What to say.
        code: What to exit with.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


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
        sys.stderr.write(f"tangential: {' '.join(message.split())}\n")
    raise SystemExit(code or 0)


def _explained(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    match error:
        case Stopped():
            return str(error), error.code
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
    raise Stopped("terminated", 128 + signum)


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
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs and the report; runs/RECIPE if not given.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that all works.")] = False,
    debug: Debug = False,
) -> None:
    """Train a recipe, or go on with it, and report: a table, a page, plots.

    Running the same command again resumes what was stopped and skips what is finished.
    """
    started = time.monotonic()
    chosen = _recipe(recipe, overrides or [], seeds=seeds, smoke=smoke)
    out = out or Path("runs") / (f"{recipe}-smoke" if smoke else recipe)
    torch.set_num_threads(THREADS)
    todo = jobs(chosen, out)
    make_folder(out)
    console = Console()
    finished = sum(not job.left for job in todo)
    if finished:
        console.print(f"{finished} of {len(todo)} runs are finished already", highlight=False)
    try:
        with Display(console, todo) as display:
            for job in todo:
                _train_job(job, display)
    except (KeyboardInterrupt, Stopped) as stop:
        word, code = (str(stop), stop.code) if isinstance(stop, Stopped) else ("interrupted", 130)
        raise Stopped(f"{word}; to resume: {_command()}", code) from stop
    console.print(f"{len(todo) - finished} runs in {time.monotonic() - started:.0f} s", highlight=False)
    show(console, gather(find([out])), out)


@app.command()
def recipes() -> None:
    """List the recipes."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, each in RECIPES.items():
        table.add_row(Text(name, style="bold"), each.about)
    Console().print(table)


for command in (report, inspect, theory, toy, predict, neighbours):
    app.command()(command)


def _recipe(name: str, overrides: list[str], *, seeds: int | None, smoke: bool) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose from: {', '.join(RECIPES)}")
    recipe = RECIPES[name].smoke() if smoke else RECIPES[name]
    for assignment in overrides:
        recipe = override(recipe, assignment)
    return recipe if seeds is None else replace(recipe, seeds=seeds)


def _train_job(job: Job, display: Display) -> None:
    if not job.left:
        return
    job.folder.start(job.settings, environment(command=_command(), threads=torch.get_num_threads()))
    try:
        for record in fit(job.plan, job.folder):
            display.epoch(job, record)
    except FloatingPointError as error:
        raise FloatingPointError(f"{job.optimizer}, seed {job.seed}: {error}") from error


def _command() -> str:
    return shlex.join(["tangential", *sys.argv[1:]])

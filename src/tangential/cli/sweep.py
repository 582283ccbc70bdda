"""The command that tunes: every optimizer of a recipe with the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tangential.cli.inquiries import THREADS, Debug
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.folder import RunFolder, make_folder
from tangential.experiments.sweep.search_space import Range, is_range, read_ranges
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.training.devices import start
from tangential.experiments.training.fit import fit
from tangential.experiments.training.signals import Stop

if TYPE_CHECKING:
    from tangential.experiments.recipes import Recipe


def sweep(
    recipe: Annotated[str, typer.Argument(help="What to tune; see `tangential recipes`.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=RANGE]...",
            help="What to search, 'optimizers.*.lr=1e-3..1' or 'batch_size=32|64', and settings: epochs=5.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings tried for each optimizer.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a trial is scored over.")] = 1,
    on: Annotated[
        Literal["validation", "test"], typer.Option(help="Score on training data held out, or on the test data.")
    ] = "validation",
    storage: Annotated[str | None, typer.Option(help="Database of the trials; OUT/sweep.db if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the trials' runs; runs/RECIPE-sweep.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two steps on a few samples: a check that all works.")] = False,
    heartbeat: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="Silent for twice as long, a worker counts as dead.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = THREADS,
    debug: Debug = False,
) -> None:
    """Tune each optimizer of a recipe with as many trials, baseline and projected alike.

    Run the same command several times at once for several workers, and again to go on.
    """
    chosen, ranges = _read(recipe, settings or [], smoke=smoke)
    task = ValidationSplit(chosen.task) if on == "validation" else chosen.task
    chosen = replace(chosen, seeds=seeds, task=task, watch_every=chosen.watch_every or 0)
    searched = read_ranges(chosen, ranges)
    chosen.check()
    out = out or Path("runs") / f"{recipe}-sweep"
    make_folder(out)
    torch.set_num_threads(threads)
    console = Console()
    best_of = {}
    with Stop() as stop:
        for optimizer, each in searched.items():
            if each:
                study = _work(chosen, optimizer, each, console, stop, trials, storage, out, heartbeat)
                best_of[optimizer] = study
    _print_best(console, chosen, best_of, on)


def _read(name: str, settings: Sequence[str], *, smoke: bool) -> tuple[Recipe, list[str]]:
    """The recipe with the plain overrides, and the ranges."""
    from tangential.experiments.recipes import choose

    recipe = choose(name, [each for each in settings if not is_range(each)], smoke=smoke)
    return recipe, [each for each in settings if is_range(each)]


def _work(
    recipe: Recipe,
    optimizer: str,
    ranges: list[Range],
    console: Console,
    stop: Stop,
    trials: int,
    storage: str | None,
    out: Path,
    heartbeat: int,
) -> Any:
    from tangential.experiments.sweep.study import (
        Sweep,  # Optuna and its database take a second that other commands need not wait
    )

    fabric = start(precision=recipe.precision)
    headline = recipe.task.headline

    def run(recipe: Recipe, optimizer: str, seed: int, folder: RunFolder) -> float:
        settings = recipe.settings(optimizer, seed)
        if folder.exists() and folder.settings() != settings:
            raise ValueError(f"{folder.path} holds a run with other settings; choose another --out, or delete it")
        folder.start(settings, environment(command=f"sweep of {recipe.name}", threads=torch.get_num_threads()))
        for _ in fit(recipe.plan(optimizer, seed), folder, fabric=fabric, stop=stop):
            pass
        return folder.metrics()[-1][f"test_{headline.name}"]

    def show(trial: Any) -> None:
        score = "diverged" if trial.value is None else f"{headline.scale * trial.value:.2f}"
        values = " ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        console.print(Text(f"{optimizer:<10}{trial.number:>5}{score:>10}  {values}"), soft_wrap=True)

    return Sweep(
        recipe=recipe,
        optimizer=optimizer,
        ranges=ranges,
        trials=trials,
        storage=storage or f"sqlite:///{out.resolve()}/sweep.db",
        out=out,
        run=run,
        heartbeat=heartbeat,
    ).work(show)


def _print_best(console: Console, recipe: Recipe, studies: dict[str, Any], on: str) -> None:
    from tangential.experiments.sweep.study import best

    headline = recipe.task.headline
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("optimizer", f"{headline.label}, {on}", "trials", "best settings"):
        table.add_column(heading, justify="left" if heading in ("optimizer", "best settings") else "right")
    for name, study in studies.items():
        found = best(study)
        values = " ".join(f"{path}={_short(value)}" for path, value in found.params.items()) if found else "none"
        score = "diverged" if found is None or found.value is None else f"{headline.scale * found.value:.2f}"
        table.add_row(name, score, str(_finished(study)), Text(values, overflow="fold"))
    console.print(table)
    if on == "test":
        console.print("Chosen on the test data: these scores are too good, and no fair contest.", highlight=False)


def _finished(study: Any) -> int:
    return sum(each.state.name in ("COMPLETE", "PRUNED") for each in study.get_trials(deepcopy=False))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

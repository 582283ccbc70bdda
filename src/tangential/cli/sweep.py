"""The command `sweep`: hyperparameter search, with the same budget for every optimizer of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from tangential.cli.terminal import console, print_line, table
from tangential.cli.workers import workers as workers_of
from tangential.experiments.engines import Engine
from tangential.experiments.recipes import Recipe, choose
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.files import make_folder
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.sweep.search_space import is_range, read_ranges
from tangential.experiments.sweep.storage import check_shared
from tangential.experiments.sweep.study import Sweep, best
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.training.devices import start
from tangential.experiments.training.fit import fit
from tangential.experiments.training.signals import Stop


def sweep(
    *,
    recipe: str,
    settings: list[str] | None,
    trials: int,
    seeds: int,
    on: Literal["validation", "test"],
    storage: str | None,
    out: Path | None,
    smoke: bool,
    heartbeat: int,
    workers: int,
    engine: Engine,
    per_worker: str,
    threads: int,
    worker: int | None,
) -> None:
    """Search hyperparameters of each optimizer of a recipe, with as many trials each.

    Several processes with the same command share the trials; the same command again resumes the search.
    """
    fixed = [each for each in settings or [] if not is_range(each)]
    ranges = [each for each in settings or [] if is_range(each)]
    chosen = choose(recipe, fixed, smoke=smoke)
    task = ValidationSplit(chosen.task) if on == "validation" else chosen.task
    watch_every = 0 if chosen.options.watch_every is None else chosen.options.watch_every
    chosen = replace(chosen, seeds=seeds, task=task, options=replace(chosen.options, watch_every=watch_every))
    searched = read_ranges(chosen, ranges)
    chosen.check()
    out = out or Path("runs") / f"{recipe}-sweep"
    make_folder(out)
    torch.set_num_threads(threads)
    terminal = console(quiet=worker is not None)
    database = storage or out.resolve() / "sweep.db"
    if workers > 1 or engine != "local":
        check_shared(database, machines=engine != "local")
    studies = {}
    with Stop() as stop, workers_of(engine, workers, per_worker=per_worker, out=out, worker=worker) as others:
        others.start()

        def check() -> None:
            stop.check()
            others.check()

        for optimizer, space in searched.items():
            if space:
                search = Sweep(
                    recipe=chosen,
                    optimizer=optimizer,
                    ranges=space,
                    trials=trials,
                    storage=database,
                    out=out,
                    run=_runner(chosen, stop),
                    heartbeat=heartbeat,
                    check=check,
                )
                run = search.work if others.trains else search.watch
                studies[optimizer] = run(_shower(terminal, chosen, optimizer))
        stop.check()
    _print_best(terminal, chosen, studies, on)


def _runner(recipe: Recipe, stop: Stop) -> Callable[[Recipe, str, int, RunFolder], float]:
    """The function that trains one run of a trial and returns its score."""
    fabric = start(precision=recipe.options.precision)
    score = f"test_{recipe.task.headline.name}"

    def run(recipe: Recipe, optimizer: str, seed: int, folder: RunFolder) -> float:
        where = environment(command=f"sweep of {recipe.name}", threads=torch.get_num_threads())
        plan, settings = recipe.plan(optimizer, seed), recipe.settings(optimizer, seed)
        for _ in fit(plan, folder, settings=settings, environment=where, fabric=fabric, stop=stop):
            pass
        return folder.metrics()[-1][score]

    return run


def _shower(terminal: Console, recipe: Recipe, optimizer: str) -> Callable[[Any], None]:
    """The function that prints a finished trial."""

    def show(trial: Any) -> None:
        print_line(terminal, f"{optimizer:<10}{trial.number:>5}{_score(recipe, trial):>10}  {_values(trial)}")

    return show


def _print_best(terminal: Console, recipe: Recipe, studies: dict[str, Any], on: str) -> None:
    rows = []
    for name, study in studies.items():
        found = best(study)
        rows.append((name, _score(recipe, found), str(_finished(study)), _values(found) if found else "none"))
    headings = ("optimizer", f"{recipe.task.headline.label}, {on}", "trials", "best settings")
    terminal.print(table(headings, rows, left=(0, 3)))
    if on == "test":
        terminal.print("Chosen on the test data: these scores are biased upwards and no fair comparison.")


def _score(recipe: Recipe, trial: Any) -> str:
    if trial is None or trial.value is None:
        return "diverged"
    return f"{recipe.task.headline.scale * trial.value:.2f}"


def _values(trial: Any) -> str:
    return " ".join(f"{path}={_short(value)}" for path, value in trial.params.items())


def _finished(study: Any) -> int:
    return sum(each.state.name in ("COMPLETE", "PRUNED") for each in study.get_trials(deepcopy=False))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

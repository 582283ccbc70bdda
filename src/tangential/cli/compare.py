"""The command `compare`: from a recipe to the verdict, with both sides tuned alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from tangential.cli.options import command_line
from tangential.cli.stage_progress import StageProgress
from tangential.cli.terminal import console, print_line, print_table
from tangential.cli.workers import processes
from tangential.cli.workers import workers as workers_of
from tangential.experiments.comparison import page, stages
from tangential.experiments.comparison.choices import Choices
from tangential.experiments.comparison.contest import Contest
from tangential.experiments.comparison.items import RETRAINED, Item
from tangential.experiments.comparison.outcome import outcome
from tangential.experiments.comparison.protocol import FILE, Protocol
from tangential.experiments.comparison.register import register, registered
from tangential.experiments.comparison.work import work
from tangential.experiments.engines import Engine
from tangential.experiments.engines.workers import Workers
from tangential.experiments.report import page as report
from tangential.experiments.report.comparison import gather_folders
from tangential.experiments.runs.files import make_folder
from tangential.experiments.sweep.search_space import is_range
from tangential.experiments.training.devices import start
from tangential.experiments.training.signals import Stop

Stage = Literal["register", "tune", "retrain", "test", "report"]


def compare(
    *,
    recipe: str,
    settings: list[str] | None,
    only: list[str] | None,
    against: list[str] | None,
    budget: float | None,
    trials: int | None,
    seeds: int | None,
    tuning_seeds: int | None,
    held_out: float | None,
    margin: float | None,
    stage: Stage | None,
    out: Path | None,
    smoke: bool,
    workers: int | None,
    engine: Engine,
    per_worker: str,
    threads: int,
    worker: int | None,
) -> None:
    """Tune baseline and projected optimizers alike, retrain them from fresh seeds, and judge.

    The same command again resumes; several processes with the same command share the runs.
    """
    given = settings or []
    asked = _stated(
        recipe=recipe,
        settings=tuple(each for each in given if not is_range(each)),
        ranges=tuple(each for each in given if is_range(each)),
        only=tuple(only or ()),
        against=tuple(against or ()),
        trials=trials,
        budget=budget,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        held_out=held_out,
        margin=margin,
        smoke=smoke or None,
    )
    out = out or Path("runs") / f"{recipe}-compare{'-smoke' if smoke else ''}"
    torch.set_num_threads(threads)
    terminal = console(quiet=worker is not None)
    found = registered(asked, out, trains=stage in (None, "tune", "retrain"))
    if found is None and stage not in (None, "register"):
        raise ValueError(
            f"{out / FILE}: nothing is registered there; leave --stage away, or begin with --stage register"
        )
    choices = found[1].choices if found else Choices(**asked)
    fabric = start(precision=choices.contest().recipe.options.precision)
    count = workers or (processes(threads) if engine == "local" else 1)
    crew = workers_of(engine, count, per_worker=per_worker, out=out, worker=worker)
    with Stop() as stop:
        if found is None:
            make_folder(out)
            print_line(terminal, "register: measuring the time of an epoch of each optimizer")
            found = register(choices, out, fabric=fabric, command=command_line(), workers=count)
        _print_plan(terminal, *found, out)
        stop.check()
        with crew as others, StageProgress(terminal, found[1]) as progress:
            options = {"fabric": fabric if others.trains else None, "stop": stop, "watcher": progress}
            train = partial(_train, others=others, options=options)
            made = None if stage == "register" else _run(*found, out, stage, train, worker=worker is not None)
    if made is not None:
        show(terminal, made, out)


def _train(items: Sequence[Item], *, others: Workers, options: dict[str, Any]) -> None:
    """Train what is left of a stage, with the workers' help."""
    if not all(item.finished() for item in items):
        others.start()
    work(items, check=others.check, command=command_line(), **options)


def _run(
    contest: Contest, protocol: Protocol, out: Path, stage: Stage | None, train: stages.Trainer, *, worker: bool
) -> dict[str, Any] | None:
    """Run a stage, or all of them; the outcome if that was asked for. A worker only trains."""
    tuning = stages.tune(contest, protocol, out, train if stage in (None, "tune") else stages.finished_only)
    if stage in (None, "retrain"):
        stages.retrain(contest, protocol, tuning, out, train)
    if worker or stage in ("tune", "retrain"):
        return None
    scores = stages.test(contest, protocol, tuning, out)
    return outcome(contest, protocol, tuning, scores, out) if stage in (None, "report") else None


def show(terminal: Console, made: dict[str, Any], out: Path) -> None:
    """Print verdicts and table of a comparison, and write its page and record."""
    for sentence in made["sentences"]:
        print_line(terminal, f"{sentence}.", style="bold")
    headings, *rows = page.table(made)
    terminal.print()
    print_table(terminal, headings, rows, left=("tuned settings",))
    for note in made["notes"]:
        print_line(terminal, note)
    report.save(gather_folders([out / RETRAINED]), out / RETRAINED)  # curves and layers, to which the page links
    for written in page.save(made, out):
        print_line(terminal, written)


def _print_plan(terminal: Console, contest: Contest, protocol: Protocol, out: Path) -> None:
    """What will be done, and what it is expected to cost."""
    cost, choices = protocol.cost, protocol.choices
    for family in contest.families:
        axes = protocol.grids[family[0]].axes
        space = " x ".join(f"{len(axis.levels)} of {axis.setting}" for axis in axes)
        print_line(terminal, f"{', '.join(family)}: {len(protocol.grids[family[0]])} trials each ({space})")
    run = cost.epoch * contest.recipe.epochs
    print_line(
        terminal,
        f"{cost.trials} runs to tune, {cost.runs} from {choices.seeds} fresh seeds; {run:.1f} s a run: about"
        f" {cost.seconds / 60:.1f} minutes, {cost.longest / 60:.1f} if ranges are extended ({out / FILE})",
    )


def _stated(**choices: Any) -> dict[str, Any]:
    """What the command line states; the rest is left to the protocol."""
    return {name: value for name, value in choices.items() if value not in (None, ())}

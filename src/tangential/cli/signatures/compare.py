"""Arguments of the command `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tangential.cli.options import THREADS, Debug, Engine, PerWorker, Smoke, Threads, WorkerOf, path, recipe_names


def compare(
    recipe: Annotated[
        str, typer.Argument(autocompletion=recipe_names, help="Name of a recipe; see `tangential recipes`.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=RANGE]...", help="Search space, 'optimizers.*.lr=1e-3..1', and settings: epochs=5."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTIMIZER", help="Compare this projected optimizer alone; may be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=VALUE", help="Compare with this variant too: wd_ratio=1, blocks=none; may be repeated."
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Fit the number of trials to this time.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Most trials of each optimizer. [default: 25]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Fresh seeds of the retrained runs. [default: 8]")] = None,
    tuning_seeds: Annotated[int | None, typer.Option(help="Seeds of each trial. [default: 1]")] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of the training data that trials are scored on. [default: 0.2]")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Difference that does not matter, in the unit of the score. [default: the recipe's]"),
    ] = None,
    stage: Annotated[
        Literal["register", "tune", "retrain", "test", "report"] | None,
        typer.Option(help="Run this stage alone. [default: all of them]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of all runs. [default: runs/RECIPE-compare]")
    ] = None,
    smoke: Smoke = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the runs. [default: one for each CPU]")
    ] = None,
    engine: Engine = "local",
    per_worker: PerWorker = "cpus=1",
    threads: Threads = THREADS,
    worker: WorkerOf = None,
    debug: Debug = False,
) -> None:
    """Tune baseline and projected optimizers alike, retrain them from fresh seeds, and judge.

    The same command again resumes; several processes with the same command share the runs.

    Examples:
      tangential compare digits 'optimizers.*.lr=1e-3..1' --only sgdp
      tangential compare digits --budget 60 --seeds 8 --out runs/judged
    """
    from tangential.cli import compare as command

    command.compare(
        recipe=recipe,
        settings=settings,
        only=only,
        against=against,
        budget=budget,
        trials=trials,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        held_out=held_out,
        margin=margin,
        stage=stage,
        out=out,
        smoke=smoke,
        workers=workers,
        engine=engine,
        per_worker=per_worker,
        threads=threads,
        worker=worker,
    )

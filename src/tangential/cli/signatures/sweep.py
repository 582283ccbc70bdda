"""Arguments of the command `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tangential.cli.options import THREADS, Debug, Engine, PerWorker, Smoke, Threads, WorkerOf, path, recipe_names


def sweep(
    recipe: Annotated[
        str, typer.Argument(autocompletion=recipe_names, help="Name of a recipe; see `tangential recipes`.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=RANGE]...",
            help="Search space, 'optimizers.*.lr=1e-3..1' or 'batch_size=32|64', and settings: epochs=5.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each optimizer.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that the score of a trial is averaged over.")] = 1,
    on: Annotated[
        Literal["validation", "test"], typer.Option(help="Score on a split of the training data, or on the test data.")
    ] = "validation",
    storage: Annotated[str | None, typer.Option(help="Database of the trials. [default: OUT/sweep.db]")] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the trials' runs. [default: runs/RECIPE-sweep]")
    ] = None,
    smoke: Smoke = False,
    heartbeat: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="A worker without a sign for twice as long counts as dead.")
    ] = 60,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the runs.")] = 1,
    engine: Engine = "local",
    per_worker: PerWorker = "cpus=1",
    threads: Threads = THREADS,
    worker: WorkerOf = None,
    debug: Debug = False,
) -> None:
    """Search hyperparameters of each optimizer of a recipe, with as many trials each.

    Several processes with the same command share the trials; the same command again resumes the search.

    Examples:
      tangential sweep digits 'optimizers.*.lr=1e-3..1' --trials 20 --workers 2
      tangential sweep digits 'optimizers.*.lr=1e-3..1' 'batch_size=32|64' epochs=5
    """
    from tangential.cli import sweep as command

    command.sweep(
        recipe=recipe,
        settings=settings,
        trials=trials,
        seeds=seeds,
        on=on,
        storage=storage,
        out=out,
        smoke=smoke,
        heartbeat=heartbeat,
        workers=workers,
        engine=engine,
        per_worker=per_worker,
        threads=threads,
        worker=worker,
    )

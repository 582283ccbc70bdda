"""Arguments of the command `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import THREADS, Debug, Engine, PerWorker, Smoke, Threads, WorkerOf, path, recipe_names


def train(
    recipe: Annotated[
        str, typer.Argument(autocompletion=recipe_names, help="Name of a recipe; see `tangential recipes`.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Settings to change: optimizers.sgd.lr=0.05")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds of each optimizer.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTIMIZER", help="Train only this one; may be repeated. [default: all of them]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the runs and the report. [default: runs/RECIPE]")
    ] = None,
    smoke: Smoke = False,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine, one per device. [default: 1]")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines. [default: 1]")] = None,
    strategy: Annotated[str, typer.Option(help="ddp splits each batch among the processes.")] = "auto",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps; auto takes the fastest there is.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="32, 64, bf16-mixed, 16-mixed. [default: the recipe's]")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the runs.")] = 1,
    engine: Engine = "local",
    per_worker: PerWorker = "cpus=1",
    threads: Threads = THREADS,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="Minutes between checkpoints within an epoch.")
    ] = 10.0,
    logger: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, csv or none; may be repeated. [default: tensorboard]")
    ] = None,
    worker: WorkerOf = None,
    debug: Debug = False,
) -> None:
    """Train a recipe (or resume it) and write a report.

    The same command again resumes interrupted runs and skips finished ones.

    Examples:
      tangential train digits
      tangential train digits optimizers.sgdp.lr=0.05 epochs=5 --out runs/short
      tangential train cifar10-small --only adamw --only adamp --seeds 3
      tangential train digits --seeds 10 --workers 4
      tangential train digits --smoke
    """
    from tangential.cli import train as command

    command.train(
        recipe=recipe,
        overrides=overrides,
        seeds=seeds,
        only=only,
        out=out,
        smoke=smoke,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        accelerator=accelerator,
        precision=precision,
        workers=workers,
        engine=engine,
        per_worker=per_worker,
        threads=threads,
        worker=worker,
        checkpoint_every=checkpoint_every,
        logger=logger,
    )

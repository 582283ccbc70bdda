"""Work of a stage: its items are trained one after the other, by this process and any other with the same command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tangential.experiments.comparison.items import Item
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.sharing import left_to_workers, share
from tangential.experiments.task import Record
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.training.signals import Stop

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Watcher:
    """What is told of the progress of the work; a display overrides what it shows."""

    def begin(self, items: Sequence[Item], left: Sequence[Item]) -> None:
        """Some items are to be finished; those that are not yet are `left`."""

    def step(self, item: Item, training: Training) -> None:
        """A step was taken."""

    def epoch(self, item: Item, record: Record) -> None:
        """An epoch is on disk."""

    def finished(self, item: Item) -> None:
        """An item that was left is finished, here or by another process."""


def work(
    items: Sequence[Item],
    *,
    fabric: Fabric | None,
    check: Callable[[], None],
    stop: Stop,
    command: str,
    watcher: Watcher,
) -> None:
    """Train what is left of some items, until all are finished.

    Args:
        items: The runs, in the order in which they are taken.
        fabric: Where they are trained; None to leave them to other processes.
        check: Called before every run and while others are waited for.
        stop: Its signal ends the work; the run under way is saved.
        command: For the record of the environment.
        watcher: Told of the progress.

    Raises:
        Stopped: A signal came.
    """
    where = environment(command=command, threads=torch.get_num_threads())
    left = [item for item in items if not item.finished()]
    watcher.begin(items, left)

    def checked() -> None:
        stop.check()
        check()

    def train(item: Item) -> None:
        left_to_workers(item) if fabric is None else _train(item, fabric, stop, where, watcher)

    share(left, finished=Item.finished, train=train, check=checked, seen=watcher.finished)


def _train(item: Item, fabric: Fabric, stop: Stop, where: dict[str, Any], watcher: Watcher) -> None:
    """Train an item.

    Raises:
        Held: Another process does.
    """
    plan, settings = item.recipe.plan(item.optimizer, item.seed), item.recipe.settings(item.optimizer, item.seed)
    shown: Callable[[Training], None] = lambda training: watcher.step(item, training)  # noqa: E731
    try:
        for record in fit(
            plan, item.folder, settings=settings, environment=where, fabric=fabric, stop=stop, progress=shown
        ):
            watcher.epoch(item, record)
    except FloatingPointError as error:
        item.folder.mark_diverged(str(error))

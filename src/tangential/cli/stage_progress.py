"""Progress of `tangential compare`: a line per finished run, and on a terminal the present one with a bar.

tune     sgdp           lr=0.1 weight_decay=0.0001            97.08  left 4:10
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tangential.cli.terminal import print_line
from tangential.experiments.comparison.items import Item
from tangential.experiments.comparison.protocol import Protocol
from tangential.experiments.comparison.work import Watcher
from tangential.experiments.report.text import escaped, shortened
from tangential.experiments.task import Record
from tangential.experiments.training.loop import Training

_EVERY = 0.25  # seconds between two updates within an epoch
_SETTINGS = 32  # columns for the settings of a trial


class StageProgress(Watcher):
    """The progress of all stages; use it in a `with` statement.

    Args:
        console: Standard output. If it is no terminal, only finished runs are printed.
        protocol: For the expected time.
    """

    def __init__(self, console: Console, protocol: Protocol) -> None:
        self._console = console
        self._protocol = protocol
        self._expected: dict[Path, float] = {}  # run folder -> seconds that are left of it, at the pace of the probe
        self._later = 0.0
        self._trained = 0.0
        self._seconds = 0.0
        self._at = self._shown = time.monotonic()
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> StageProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def begin(self, items: Sequence[Item], left: Sequence[Item]) -> None:
        """Begin a stage, or go on with more runs of it."""
        self._expected = {
            item.folder.path: self._cost(item.stage) * (item.epochs - item.epochs_done()) for item in left
        }
        tuning = bool(items) and items[0].stage == "tune"
        self._later = self._protocol.cost.runs * items[0].epochs * self._cost("retrain") if tuning else 0.0
        if 0 < len(left) < len(items):
            print_line(self._console, f"{items[0].stage:<9}{len(items) - len(left)} of {len(items)} runs are finished")
        self._at = time.monotonic()

    def step(self, item: Item, training: Training) -> None:
        """Show the batch of the present epoch, at most four times a second."""
        if not self._live or time.monotonic() - self._shown < _EVERY:
            return
        self._shown = time.monotonic()
        place = f"epoch {training.epoch + 1} of {item.epochs}"
        self._live.update(Group(_line(item, place), self._bar()))

    def epoch(self, item: Item, record: Record) -> None:
        """Count an epoch and the time that it took."""
        now = time.monotonic()
        self._seconds += now - self._at
        self._at = now
        self._trained += self._cost(item.stage)
        self._expected[item.folder.path] -= self._cost(item.stage)

    def finished(self, item: Item) -> None:
        """Print the result of a run."""
        self._expected.pop(item.folder.path, None)
        self._at = time.monotonic()
        score = item.score()
        text = "diverged" if score is None else f"{item.recipe.task.headline.scale * score:.2f}"
        self._console.print(_line(item, f"{text:>9}  left {self._left()}"))

    def _cost(self, stage: str) -> float:
        """Expected seconds of an epoch."""
        return self._protocol.cost.epoch * ((1 - self._protocol.choices.held_out) if stage == "tune" else 1.0)

    def _remaining(self) -> float:
        return sum(self._expected.values()) + self._later

    def _left(self) -> str:
        """Expected time to the end, at the pace of what was trained so far."""
        pace = (self._seconds / self._trained if self._trained else 1.0) / self._protocol.cost.workers
        hours, seconds = divmod(round(self._remaining() * pace), 3600)
        return (f"{hours}:{seconds // 60:02d}" if hours else f"{seconds // 60}") + f":{seconds % 60:02d}"

    def _bar(self) -> ProgressBar:
        return ProgressBar(total=self._trained + self._remaining(), completed=self._trained)


def _line(item: Item, text: str) -> Text:
    name, label = shortened(item.optimizer, 14), shortened(item.label, _SETTINGS)
    return Text(escaped(f"{item.stage:<9}{name:<15}{label:<{_SETTINGS}}{text}"), no_wrap=True, overflow="ellipsis")

"""What `tangential train` shows while it runs: one line per finished run, and on a terminal the run under way."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tangential.jobs import Job
from tangential.train import Record

_HEADING = (
    f"{'optimizer':<10}{'seed':>5}{'epoch':>9}{'loss':>10}{'accuracy':>10}{'norm':>8}{'effective step':>16}{'left':>9}"
)


class Display:
    """The progress of a list of jobs; use it in a `with` statement.

    Args:
        console: Where to print. If it is no terminal, only finished runs are printed.
        jobs: What will be trained.
    """

    def __init__(self, console: Console, jobs: list[Job]) -> None:
        self._console = console
        self._total = sum(job.plan.epochs for job in jobs)
        self._left = sum(job.left for job in jobs)
        self._trained = 0
        self._started = time.monotonic()
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        self._console.print(Text(_HEADING, style="bold"))
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def epoch(self, job: Job, record: Record) -> None:
        """Show one more epoch of a job."""
        self._trained += 1
        self._left -= 1
        line = Text(self._line(job, record), no_wrap=True, overflow="ellipsis")
        finished = record["epoch"] == job.plan.epochs
        if self._live:
            bar = ProgressBar(total=self._total, completed=self._total - self._left)
            self._live.update(bar if finished else Group(line, bar))
        if finished:
            self._console.print(line)

    def _line(self, job: Job, record: Record) -> str:
        return (
            f"{job.optimizer:<10}{job.seed:>5}{record['epoch']:>5.0f}/{job.plan.epochs:<3}"
            f"{record['train_loss']:>10.4f}{100 * record['test_accuracy']:>8.2f} %"
            f"{record['weight_norm']:>8.2f}{record['effective_step']:>16.1e}{self._time_left():>9}"
        )

    def _time_left(self) -> str:
        seconds = round(self._left * (time.monotonic() - self._started) / self._trained)
        return f"{seconds // 60}:{seconds % 60:02d}"

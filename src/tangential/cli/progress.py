"""What `tangential train` shows while it runs: one line per finished run, and on a terminal the run under way."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tangential.experiments.recipes.jobs import Job
from tangential.experiments.task import Headline, Record
from tangential.experiments.training.loop import Training

_EVERY = 0.25  # seconds between two pictures of a step
_LABEL = 12  # columns for the name of the score, so that a line has 80


class Display:
    """The progress of a list of jobs; use it in a `with` statement.

    Args:
        console: Where to print. If it is no terminal, only finished runs are printed.
        jobs: What will be trained; at least one.
    """

    def __init__(self, console: Console, jobs: list[Job]) -> None:
        self._console = console
        self._total = sum(job.plan.epochs for job in jobs)
        self._left = sum(job.left for job in jobs)
        self._trained = 0.0
        self._started = time.monotonic()
        self._shown = 0.0
        self._headline = jobs[0].plan.task.headline
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        self._console.print(Text(_heading(self._headline), style="bold"))
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def step(self, job: Job, training: Training) -> None:
        """Show how far an epoch is, now and then."""
        if not self._live or time.monotonic() - self._shown < _EVERY:
            return
        self._shown = time.monotonic()
        place = f"{training.epoch + 1:>5}/{job.plan.epochs:<3} batch {training.batch} of {training.batches}"
        line = Text(f"{job.optimizer:<10}{job.seed:>5}{place}", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(line, self._bar(training.batch / training.batches)))

    def epoch(self, job: Job, record: Record) -> None:
        """Show one more epoch of a job."""
        self._trained += 1
        self._left -= 1
        line = Text(self._line(job, record), no_wrap=True, overflow="ellipsis")
        finished = record["epoch"] == job.plan.epochs
        if self._live:
            self._live.update(self._bar() if finished else Group(line, self._bar()))
            self._shown = time.monotonic()
        if finished:
            self._console.print(line)

    def _bar(self, share: float = 0.0) -> RenderableType:
        return ProgressBar(total=self._total, completed=self._total - self._left + share)

    def _line(self, job: Job, record: Record) -> str:
        score = record[f"test_{self._headline.name}"] * self._headline.scale
        return (
            f"{job.optimizer:<10}{job.seed:>5}{record['epoch']:>5.0f}/{job.plan.epochs:<3}"
            f"{record['train_loss']:>10.4f}{score:>{_score_width(self._headline)}.2f}"
            f"{record['weight_norm']:>8.2f}{record['effective_step']:>16.1e}{self._time_left():>9}"
        )

    def _time_left(self) -> str:
        seconds = round(self._left * (time.monotonic() - self._started) / self._trained)
        hours, seconds = divmod(seconds, 3600)
        return (f"{hours}:{seconds // 60:02d}" if hours else f"{seconds // 60}") + f":{seconds % 60:02d}"


def _heading(headline: Headline) -> str:
    label = _short(headline.label)
    return (
        f"{'optimizer':<10}{'seed':>5}{'epoch':>9}{'loss':>10}{label:>{_score_width(headline)}}"
        f"{'norm':>8}{'effective step':>16}{'left':>9}"
    )


def _score_width(headline: Headline) -> int:
    return max(len(_short(headline.label)) + 1, 10)


def _short(label: str) -> str:
    """As many of the last words as a line of 80 columns has room for: `accuracy (%)` of `attacked accuracy (%)`."""
    words = label.split()
    while len(words) > 1 and len(" ".join(words)) > _LABEL:
        words = words[1:]
    return " ".join(words)

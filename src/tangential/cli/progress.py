"""Progress of `tangential train`: one line per finished run, and on a terminal the present run with a progress bar.

Lines have 80 columns at most, so that a log fits any terminal:

    optimizer  seed    epoch      loss accuracy (%)    norm  effective step     left
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tangential.cli.terminal import print_line
from tangential.experiments.recipes.jobs import Job
from tangential.experiments.report.text import escaped
from tangential.experiments.task import Headline, Record
from tangential.experiments.training.loop import Training

_EVERY = 0.25  # seconds between two updates within an epoch
_LABEL = 12  # columns for the name of the score, so that a line has 80


class Display:
    """The progress of a list of jobs; use it in a `with` statement.

    Args:
        console: Standard output. If it is no terminal, only finished runs are printed.
        jobs: The runs of the command, finished ones too; at least one.
    """

    def __init__(self, console: Console, jobs: list[Job]) -> None:
        self._console = console
        self._total = sum(job.plan.epochs for job in jobs)
        self._left = sum(job.left for job in jobs)
        self._trained = 0.0
        self._trained_of: dict[Path, int] = {}
        self._printed: set[Path] = set()
        self._started = time.monotonic()
        self._shown = 0.0
        self._headline = jobs[0].plan.task.headline
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        print_line(self._console, _heading(self._headline), style="bold")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def step(self, job: Job, training: Training) -> None:
        """Show the batch of the present epoch, at most four times a second."""
        if not self._live or time.monotonic() - self._shown < _EVERY:
            return
        self._shown = time.monotonic()
        place = f"{training.epoch + 1:>5}/{job.plan.epochs:<3} batch {training.batch} of {training.batches}"
        line = _one_line(f"{job.optimizer:<10}{job.seed:>5}{place}")
        self._live.update(Group(line, self._bar(training.batch / training.batches)))

    def epoch(self, job: Job, record: Record) -> None:
        """Count a finished epoch and show its record; print it where it is the last of its run."""
        self._trained += 1
        self._trained_of[job.folder.path] = self._trained_of.get(job.folder.path, 0) + 1
        self._left -= 1
        line = _one_line(self._line(job, record))
        finished = record["epoch"] == job.plan.epochs
        if self._live:
            self._live.update(self._bar() if finished else Group(line, self._bar()))
            self._shown = time.monotonic()
        if finished:
            self._printed.add(job.folder.path)
            self._console.print(line)

    def diverged(self, job: Job, message: str) -> None:
        """Print that a run ended early, and leave its other epochs out of the count."""
        self._printed.add(job.folder.path)
        self._left -= job.left - int(self._trained_of.pop(job.folder.path, 0))
        print_line(self._console, f"{job.optimizer:<10}{job.seed:>5} diverged: {message}")

    def elsewhere(self, job: Job) -> None:
        """Count and print a run that another process has finished."""
        if job.folder.path in self._printed:
            return
        if reason := job.folder.diverged():
            self.diverged(job, reason)
            return
        self._trained += job.left - 1
        self._left -= job.left - 1
        self.epoch(job, job.folder.metrics()[-1])

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


def _one_line(text: str) -> Text:
    return Text(escaped(text), no_wrap=True, overflow="ellipsis")


def _heading(headline: Headline) -> str:
    label = _short(headline.label)
    return (
        f"{'optimizer':<10}{'seed':>5}{'epoch':>9}{'loss':>10}{label:>{_score_width(headline)}}"
        f"{'norm':>8}{'effective step':>16}{'left':>9}"
    )


def _score_width(headline: Headline) -> int:
    return max(len(_short(headline.label)) + 1, 10)


def _short(label: str) -> str:
    """The last words of a label that 80 columns leave room for: `accuracy (%)` of `attacked accuracy (%)`."""
    words = label.split()
    while len(words) > 1 and len(" ".join(words)) > _LABEL:
        words = words[1:]
    return " ".join(words)

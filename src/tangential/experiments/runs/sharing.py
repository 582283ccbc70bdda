"""Runs that several processes share: each belongs to whoever holds the lock of its folder, and its result is there.

So nothing else has to be agreed upon. A process that finds a run held takes another, and waits at the end for those
that others still train; one that is killed frees its run, which another process takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from tangential.experiments.runs.lock import Held

T = TypeVar("T")

POLL = 0.5
"""Seconds between two looks at what others train."""


def share(
    items: Sequence[T],
    *,
    finished: Callable[[T], bool],
    train: Callable[[T], None],
    check: Callable[[], None],
    seen: Callable[[T], None] = lambda item: None,
) -> None:
    """Train some runs until all are finished, by this process or others.

    Args:
        items: The runs, in the order in which they are taken.
        finished: Whether nothing of a run is left to do.
        train: Trains a run; raises `Held` if another process does.
        check: Called before every run and while others are waited for; what it raises ends the work.
        seen: Told of every run that is finished, here or elsewhere.

    Examples:
        >>> done = set()
        >>> share(["a", "b"], finished=done.__contains__, train=done.add, check=lambda: None, seen=print)
        a
        b
    """
    left = list(items)
    while left:
        trained = _train_one(left, finished, train, check)
        before, left = left, []
        for item in before:
            seen(item) if finished(item) else left.append(item)
        if not trained and len(left) == len(before):
            time.sleep(POLL)


def left_to_workers(item: object) -> None:
    """Train nothing: what a process does that only waits for its workers.

    Raises:
        Held: Always.
    """
    raise Held(f"{item} is left to the workers")


def _train_one(
    left: Sequence[T], finished: Callable[[T], bool], train: Callable[[T], None], check: Callable[[], None]
) -> bool:
    """Train the first run that nobody else trains; False if there is none."""
    for item in left:
        check()
        if finished(item):
            continue
        try:
            train(item)
        except Held:
            continue
        return True
    return False

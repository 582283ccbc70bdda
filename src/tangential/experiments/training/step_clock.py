"""Clock of the steps: the time that they take on the device, without waiting for it."""

from __future__ import annotations

import time
from typing import Any

import torch


class StepClock:
    """Stopwatch of forward, backward and update, in a `with` statement around each step.

    A GPU works behind the program: when a step returns, its kernels are queued and not done. Waiting for them would
    slow training down, so two events are queued with them, and their distance is read once they have passed.

    Args:
        device: Where the steps run.

    Examples:
        >>> clock = StepClock(torch.device("cpu"))
        >>> with clock:
        ...     pass
        >>> clock.seconds() >= 0
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._pending: list[tuple[Any, Any]] = []
        self._seconds = 0.0
        self._begun: Any = 0.0

    def __enter__(self) -> StepClock:
        self._begun = self._now()
        return self

    def __exit__(self, *error: object) -> None:
        self._pending.append((self._begun, self._now()))
        if not self._cuda:
            self.seconds()

    def seconds(self) -> float:
        """Seconds of all steps since the last `reset`; waits for the last of them."""
        for begun, ended in self._pending:
            if self._cuda:
                ended.synchronize()
                self._seconds += begun.elapsed_time(ended) / 1000
            else:
                self._seconds += ended - begun
        self._pending.clear()
        return self._seconds

    def reset(self, seconds: float = 0.0) -> None:
        """Begin at a number of seconds, for an epoch that is resumed."""
        self._pending.clear()
        self._seconds = seconds

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

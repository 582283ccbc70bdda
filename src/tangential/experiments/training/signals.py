"""Signals: at the first Ctrl-C or SIGTERM a run finishes its step and is saved; a second one ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(BaseException):
    """End of a run by a signal; the run can be resumed.

    Args:
        signum: The signal.

    Examples:
        >>> str(Stopped(signal.SIGTERM)), Stopped(signal.SIGTERM).code
        ('terminated', 143)
    """

    def __init__(self, signum: int) -> None:
        super().__init__(_WORDS.get(signal.Signals(signum), "stopped"))
        self.signum = signum
        self.code = 128 + signum


class Stop:
    """Holder of the signal that came, for use in a `with` statement around what has to finish its step first.

    It has no truth value of its own: `stop or Stop()` would be a fresh one that no signal reaches.

    Attributes:
        signum: The signal, 0 before one came.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        for each in _WORDS:
            # a command that was started in the background ignores Ctrl-C, and continues to
            if signal.getsignal(each) is not signal.SIG_IGN:
                self._before[each] = signal.signal(each, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def check(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self.signum:
            raise Stopped(self.signum)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise Stopped(signum)
        self.signum = signum

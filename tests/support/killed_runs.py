"""Something is done to a run when it has trained some epochs, and none of those before may be trained again."""

import os
import signal
import threading
import time
from contextlib import contextmanager

EPOCHS = 5


@contextmanager
def when_under_way(out, do):
    """Call a function with a run's metrics file once that has some epochs, while the block runs; that must happen.

    Yields:
        A list that gets the file and its lines, without the last one, whose checkpoint may not be written yet.
    """
    found, over = [], threading.Event()

    def watch():
        while not over.is_set():
            for metrics in out.rglob("metrics.jsonl"):
                if metrics.read_bytes().count(b"\n") >= EPOCHS:
                    do(metrics)
                    found.extend([metrics, metrics.read_bytes().splitlines()[:-1]])
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
    metrics, before = found
    after = metrics.read_bytes().splitlines()
    assert EPOCHS - 1 <= len(before) < len(after) and after[: len(before)] == before


def kill(metrics):
    """SIGKILL to the process that trains a run."""
    os.kill(int(metrics.with_name("lock").read_text().split()[1]), signal.SIGKILL)

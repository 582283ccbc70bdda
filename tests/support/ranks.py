"""Worlds of gloo processes on this machine, started once and called many times.

A test calls `ranks(function, *args)`: every process runs the function, which is imported by its name, and the results
come back in the order of ranks. A process that raises fails the call with its traceback. One that hangs fails it too,
because another process raised or because the time is over; the world is then started anew for the next test.
"""

import multiprocessing
import tempfile
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

TIMEOUT = 60
"""Seconds after which processes that wait for each other are taken to hang."""


def _serve(rank, size, store, pipe):
    import warnings

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=TIMEOUT)
    )
    while (call := pipe.recv()) is not None:
        function, args, kwargs = call
        try:
            torch.manual_seed(0)
            pipe.send((True, function(*args, **kwargs)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()


class Ranks:
    """A world of `size` processes, started at the first call."""

    def __init__(self, size):
        self.size = size
        self._processes, self._pipes, self._folder = [], [], None

    def __call__(self, function, *args, **kwargs):
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send((function, args, kwargs))
        found = [self._answer(pipe) for pipe in self._pipes]
        if failed := [(rank, text) for rank, (fine, text) in enumerate(found) if not fine]:
            self.stop()  # the others may wait for the one that failed, now or at the next call
            raise AssertionError("\n".join(f"rank {rank}: {text}" for rank, text in failed))
        return [result for _, result in found]

    @staticmethod
    def _answer(pipe):
        try:
            return pipe.recv() if pipe.poll(2 * TIMEOUT) else (False, "no answer")
        except (EOFError, ConnectionError):
            return False, "died"

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        for rank in range(self.size):
            here, there = context.Pipe()
            args = (rank, self.size, str(Path(self._folder.name) / "store"), there)
            process = context.Process(target=_serve, args=args, daemon=True)
            process.start()
            there.close()  # so that the death of the process ends the pipe
            self._processes.append(process)
            self._pipes.append(here)

    def stop(self):
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        if self._folder is not None:
            self._folder.cleanup()
        self._processes, self._pipes, self._folder = [], [], None

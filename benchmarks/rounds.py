"""Interleaved timing on a machine that may have other work to do, and the ceiling that memory sets."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tangential.kernels import build, cpu

QUIET = 0.15
"""CPUs that other processes may use in a round that counts."""

STREAM = """
#include <stdint.h>
struct four { float *a, *b, *c, *d; };
static void range(int64_t lo, int64_t hi, void *x) {
  float *restrict a = ((struct four *)x)->a, *restrict c = ((struct four *)x)->c, *restrict d = ((struct four *)x)->d;
  const float *restrict b = ((struct four *)x)->b;
  for (int64_t i = lo; i < hi; i++) { const float g = b[i]; a[i] += g; c[i] += g; d[i] += g; }
}
void stream(int64_t n, struct four *x, int32_t (*threads)(int64_t, int64_t, int64_t, void (*)(int64_t, int64_t, void *),
            void *)) { threads(0, n, 1, range, x); }
"""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The time of one entrant, in seconds, and its ratio to the reference of the same rounds."""

    seconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    quiet: bool


REPEATS = 5
"""Steps in a row that are timed together on a GPU, so that the host can prepare one while the device takes another."""


def seconds(step: Callable[[], object], device: str = "cpu") -> float:
    """How long a step takes: CPU time on one thread, where others cannot disturb it much, else time on the wall."""
    if device == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(REPEATS):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / REPEATS
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    step()
    return clock() - start


def busy() -> float:
    """Seconds of CPU that all processes have used since the machine started; 0 where no kernel tells."""
    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Round:
    """The seconds of every entrant that took part, and how many CPUs other processes used meanwhile."""

    seconds: dict[str, float]
    others: float


def interleave(
    steps: dict[str, Callable[[], object]], slow: set[str], rounds: int, slow_rounds: int, device: str = "cpu"
) -> list[Round]:
    """Time every step in every round, slow ones in a few, spread evenly; a first round of the others is not kept."""
    in_which = {round(i * rounds / slow_rounds) for i in range(slow_rounds)}
    found = []
    for i in range(-1, rounds):
        wall, own, everybody = time.perf_counter(), time.process_time(), busy()
        times = {name: seconds(step, device) for name, step in steps.items() if name not in slow or i in in_which}
        others = busy() - everybody - (time.process_time() - own)
        if i >= 0:
            found.append(Round(seconds=times, others=max(0.0, others / (time.perf_counter() - wall))))
    return found


def summary(rounds: list[Round], name: str, reference: str) -> Timing:
    """Medians over the quiet rounds, or over all if none was."""
    some = [r for r in rounds if name in r.seconds]
    quiet = [r for r in some if r.others <= QUIET]
    kept = [(r.seconds[name], r.seconds[reference]) for r in quiet or some]
    ratios = [a / b for a, b in kept]
    low, high = statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else (ratios[0], ratios[0])
    return Timing(
        seconds=statistics.median(a for a, _ in kept),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        rounds=len(kept),
        quiet=bool(quiet),
    )


def streaming(elements: int) -> Callable[[], object] | None:
    """Four arrays read, three written in place, 28 bytes per element: the ceiling of a fused AdamW. None without C."""
    command, threads = build.compiler(), cpu.torch_threads()
    if command is None or threads is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "stream.c", Path(folder) / "stream.so"
        source.write_text(STREAM)
        subprocess.run(
            [*command, "-O3", "-march=native", "-fPIC", "-shared", str(source), "-o", str(library)], check=True
        )
        stream = ctypes.CDLL(str(library)).stream
    arrays = [torch.zeros(elements) for _ in range(4)]
    four = (ctypes.c_void_p * 4)(*(x.data_ptr() for x in arrays))
    stream.argtypes = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    return lambda: (stream(elements, four, threads), arrays)


def copying(elements: int) -> Callable[[], object]:
    """A copy on a GPU that reads and writes 28 bytes per element in all: the ceiling there."""
    source, target = (torch.empty(elements * 7 // 2, device="cuda") for _ in range(2))
    return lambda: target.copy_(source)


def peak_bytes(step: Callable[[], object], device: str = "cpu") -> int | None:
    """Memory that a step needs for a moment, by the kernel's or the device's high-water mark. None where none is kept.

    Steps that were taken before should leave nothing to set up.
    """
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    status, marks = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else a step may find its memory on the heap, and nothing is seen
        marks.write_text("5")
    except (OSError, AttributeError):
        return None

    def kilobytes(name: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])

    before = kilobytes("VmRSS")
    step()
    return max(0, kilobytes("VmHWM") - before) * 1024

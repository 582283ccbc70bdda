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
    """Seconds of CPU that all processes have used since the machine started."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def interleave(
    steps: dict[str, Callable[[], object]], slow: set[str], rounds: int, device: str = "cpu"
) -> tuple[list[dict[str, float]], list[bool]]:
    """The time of every step in every round, and whether the machine was left to us; slow ones in each fifth."""
    found, quiet = [], []
    for i in range(rounds):
        wall, cpu_time, all_time = time.perf_counter(), time.process_time(), busy() if os.name == "posix" else 0.0
        found.append({name: seconds(step, device) for name, step in steps.items() if name not in slow or i % 5 == 0})
        others = busy() - all_time - (time.process_time() - cpu_time) if os.name == "posix" else 0.0
        quiet.append(others <= QUIET * (time.perf_counter() - wall))
    return found, quiet


def summary(times: list[dict[str, float]], quiet: list[bool], name: str, reference: str) -> Timing:
    """Medians over the quiet rounds, or over all if none was."""
    pairs = [(r[name], r[reference], q) for r, q in zip(times, quiet, strict=True) if name in r]
    some = [(a, b) for a, b, q in pairs if q]
    kept = some or [(a, b) for a, b, _ in pairs]
    ratios = [a / b for a, b in kept]
    low, high = statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else (ratios[0], ratios[0])
    return Timing(
        seconds=statistics.median(a for a, _ in kept),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        rounds=len(kept),
        quiet=bool(some),
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
    """Memory that a step needs for a moment, by the kernel's own high-water mark. None where it is not kept."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    status, marks = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        step()
        marks.write_text("5")
    except OSError:
        return None

    def kilobytes(name: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])

    before = kilobytes("VmRSS")
    step()
    return max(0, kilobytes("VmHWM") - before) * 1024

"""The C kernel's library: loading the file for this processor, and calling it.

The library is plain C without torch or Python. It is given addresses, and torch's own threads: the C function
`torch_parallel_for`, so that `torch.set_num_threads` holds for it too and no second thread pool starts.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from array import array
from functools import lru_cache
from pathlib import Path

import torch

from tangential.kernels import build
from tangential.kernels.plan import Plan


class _Job(ctypes.Structure):
    """`job` in `c/table.h`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("weights", "runs", "pieces", "tasks", "keeps", "sums")),
        *((name, ctypes.c_void_p) for name in ("addresses", "groups", "run", "piece", "bounds", "scratch", "threads")),
        *((name, ctypes.c_void_p) for name in ("calm", "state", "finding", "keep", "moved", "sum", "todo")),
    )


def _file() -> Path:
    """The file for this processor, whether it is there or not."""
    fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    variants = build.variants(build.host())
    return build.library(build.host(), variants[-1] if fast else variants[0])


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The kernel for this processor, or None where it is not there."""
    if build.host() not in build.TARGETS:
        return None
    try:  # no sources, a file that is cut or is none of ours, a package that is imported from a zip
        found = ctypes.CDLL(str(_file()))
        found.tangential_step.argtypes = found.tangential_scratch.argtypes = (ctypes.POINTER(_Job),)
    except (OSError, AttributeError):
        return None
    found.tangential_step.restype = None
    found.tangential_scratch.restype = ctypes.c_int64
    return found


def why_missing() -> str | None:
    """Reason for which there is no kernel here, or None."""
    if library() is not None:
        return None
    if build.host() in build.TARGETS:
        return (
            f"its file in {build.FOLDER} cannot be loaded; `python -m tangential.kernels` makes it, with any C compiler"
        )
    return f"it is built for {', '.join(build.TARGETS)}, and this is {build.host()}"


@lru_cache(maxsize=1)
def warn_if_missing() -> None:
    """Warn, once, that steps run in plain torch, on a platform that has a kernel."""
    if library() is None and build.host() in build.TARGETS:
        warnings.warn(
            f"steps run in plain torch, without the CPU kernel: {why_missing()}", RuntimeWarning, stacklevel=2
        )


@lru_cache(maxsize=1)
def torch_threads() -> int | None:
    """Address of `torch_parallel_for`, or None where torch has none: then one thread does the work."""
    suffix = {"darwin": "libtorch_cpu.dylib", "win32": "torch_cpu.dll"}.get(sys.platform, "libtorch_cpu.so")
    try:
        symbol = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / suffix)).torch_parallel_for
    except (OSError, AttributeError):
        return None
    return ctypes.cast(symbol, ctypes.c_void_p).value


class Call:
    """A plan with the memory that a step works in, ready to be called with addresses and settings."""

    def __init__(self, plan: Plan, weights: int) -> None:
        found = library()
        assert found is not None, "a plan is made only where the kernel is"
        self._step, self._plan = found.tangential_step, plan
        self._job = _Job(
            weights=weights,
            runs=len(plan.runs) // 13,
            pieces=len(plan.pieces) // 3,
            tasks=len(plan.bounds) - 1,
            keeps=plan.keeps,
            sums=plan.sums,
            run=plan.runs.buffer_info()[0],
            piece=plan.pieces.buffer_info()[0],
            bounds=plan.bounds.buffer_info()[0],
            threads=torch_threads(),
        )
        self._scratch = torch.zeros(found.tangential_scratch(ctypes.byref(self._job)), dtype=torch.uint8, device="cpu")
        self._job.scratch = self._scratch.data_ptr()

    def __call__(self, addresses: array[int], groups: array[float]) -> None:
        """Take one step."""
        self._job.addresses = addresses.buffer_info()[0]
        self._job.groups = groups.buffer_info()[0]
        self._step(ctypes.byref(self._job))

"""Process-wide state that a run of a model touches, put back afterwards: random states and grad mode."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Iterator

import torch

_ONE_AT_A_TIME = threading.RLock()
"""Random states belong to the process; two analyses at once would draw from each other's."""


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Leave Python's, NumPy's and torch's random states and the grad mode as they were, and wait for other analyses.

    Inside, gradients are on. The random states are the process's, so what other threads draw meanwhile is not
    reproducible.

    Examples:
        >>> before = torch.get_rng_state()
        >>> with isolated():
        ...     seed_everything(0)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        numpy = sys.modules.get("numpy")
        stack.callback(random.setstate, random.getstate())
        if numpy:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


def seed_everything(seed: int) -> None:
    """Seed every random source that a model may draw from."""
    random.seed(seed)
    # Not torch.manual_seed: it would also queue a seed for a CUDA that is not initialised yet.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)


@contextlib.contextmanager
def memory_advice() -> Iterator[None]:
    """Pass on that memory ran out, with what to try."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise type(error)(f"{error}; {_TOO_BIG}") from error
    except RuntimeError as error:
        if out_of_memory(error):
            raise MemoryError(f"{error}; {_TOO_BIG}") from error
        raise


def out_of_memory(error: Exception) -> bool:
    """Whether Python, CUDA or torch's allocator on the CPU, which has no error of its own, ran out of memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


_TOO_BIG = (
    "find_invariances needs 8 bytes per parameter beside a few runs in float64; try a smaller batch or fewer layers"
)


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run what the user compiled as it was written; a compiled graph would be built anew for the copy."""
    if "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield

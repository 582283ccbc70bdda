"""Process-wide state that a run of a model touches, put back afterwards: random states, grad mode, default dtype."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Leave Python's, NumPy's and torch's random states, and torch's default dtype and grad mode, as they were.

    Inside, the default dtype is float64 and gradients are on.

    Example:
        >>> with isolated():
        ...     seed_everything(0), torch.zeros(1).dtype
        (None, torch.float64)
        >>> torch.zeros(1).dtype
        torch.float32
    """
    numpy, dtype = sys.modules.get("numpy"), torch.get_default_dtype()
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            torch.set_default_dtype(torch.float64)
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


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

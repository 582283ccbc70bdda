"""Compilers and dispatch modes: situations in which a step is recorded, or run on tensors without values.

Under `torch.compile`, `make_fx`, `FakeTensorMode` or any other `TorchDispatchMode`, what bypasses torch's dispatcher is
invisible: the kernel would write weights that the mode never sees, and a step count read as a number
would be a constant of the recorded graph. So there no kernel is used, step counts stay tensors, and nothing that is
made is kept for later steps.
"""

from __future__ import annotations

import torch


def recording() -> bool:
    """Whether a compiler or a dispatch mode is active."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0  # pyright: ignore


def keeping() -> bool:
    """Whether a tensor that is made now can serve every later step: not one of a mode, and no inference tensor."""
    return not recording() and not torch.is_inference_mode_enabled()

"""Tensors that took long to compute, kept in files that appear as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from torch import Tensor


def kept_tensor(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Read a tensor that was kept, or compute it and keep it; a file that is broken is made anew.

    Raises:
        OSError: The disk is full or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "ones.pt"
        >>> torch.equal(kept_tensor(path, lambda: torch.ones(2)), kept_tensor(path, lambda: torch.zeros(2)))
        True
    """
    if path.exists():
        try:
            return torch.load(path, weights_only=True)
        except Exception:  # a cut or foreign file fails in as many ways as pickle, zip and torch have
            path.unlink()
    tensor = compute()
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            torch.save(tensor, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)
    return tensor

"""Fingerprints of data: hashes that tell whether a run goes on with the data it was begun with.

`data_fingerprint(loader.dataset)` is what training stores. A data set has a method `fingerprint()`, made of the two
functions here: tensors are hashed as they are, files by name, size and, if they are few, by content. Neither their
place nor their time of change counts, so a copy of a data set on another machine has the same fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tangential.experiments.data.cache import file_state

_WHOLE = 2**26
"""Bytes up to which files are hashed by content; ImageNet's 150 GB would take an hour."""


def data_fingerprint(data: object) -> str | None:
    """Fingerprint of a data set; None for one that has no method `fingerprint`."""
    method: Any = getattr(data, "fingerprint", None)
    return str(method()) if callable(method) else None


def tensor_fingerprint(*tensors: Tensor) -> str:
    """Hash of tensors: their dtypes, shapes and values, 16 hexadecimal digits.

    Examples:
        >>> tensor_fingerprint(torch.arange(3)) == tensor_fingerprint(torch.arange(4))
        False
    """
    digest = blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_fingerprint(paths: Sequence[Path | str], *about: object) -> str:
    """Hash of files: their names below the folder they share, their sizes, and up to 64 MiB in all their contents.

    Args:
        paths: The files. One that is not there counts with its name.
        about: What else belongs to the data, as the classes of the files; hashed as `repr` shows it.
    """
    digest = blake2b(repr(about).encode(errors="surrogateescape"), digest_size=8)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""  # noqa: PTH120
    sizes = [file_state(path)[1] for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        digest.update(os.fsencode(os.path.relpath(path, folder)) + f"\0{size}\0".encode())
    if sum(sizes) <= _WHOLE:
        for path in _present(paths, sizes):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _present(paths: Sequence[Path | str], sizes: Iterable[int]) -> Iterable[Path | str]:
    return (path for path, size in zip(paths, sizes, strict=True) if size >= 0)

"""Identity of the data of a run: `data.json`, written when it is begun and compared when it is resumed.

Settings name the data and not what is in their folder. A run that is resumed on other data would go on
silently, and mix two of them in one result. So each split's number of samples and fingerprint are kept:

    {"train": {"samples": 1200, "fingerprint": "5d41402abc4b2a76"}, "test": {"samples": 597, "fingerprint": ...}}

A fingerprint is null for a dataset that has no method `fingerprint()`; then only the numbers of samples are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

from tangential.experiments.data.fingerprint import data_fingerprint, tensor_fingerprint
from tangential.experiments.runs.files import read_object, replace_json
from tangential.experiments.runs.folder import RunFolder


def check_data(folder: RunFolder, datasets: Mapping[str, Any]) -> None:
    """Compare the data with those that the run was begun with.

    A run without a checkpoint begins now, and one of an earlier version has no record: their data are recorded.

    Args:
        folder: The run.
        datasets: The dataset of each split.

    Raises:
        ValueError: A split has another number of samples or another fingerprint; the error says which.
    """
    found = {split: identity(data) for split, data in datasets.items()}
    begun = folder.checkpoint.exists() or folder.previous_checkpoint.exists()
    if not (begun and folder.data.exists()):
        replace_json(folder.data, found)
        return
    recorded = read_object(folder.data)
    changed = [
        f"{split} had {_phrase(recorded[split])}, now {_phrase(own)}"
        for split, own in found.items()
        if isinstance(recorded.get(split), dict) and recorded[split] != own
    ]
    if changed:
        raise ValueError(
            f"{folder.path} was begun with other data: {'; '.join(changed)}. Put the data back as they were, or delete"
            f" {folder.path} to train it on these"
        )


def identity(data: Any) -> dict[str, Any]:
    """Number of samples and fingerprint of a dataset, each None where it has none.

    Examples:
        >>> identity(TensorDataset(torch.zeros(3)))["samples"]
        3
    """
    return {"samples": len(data) if hasattr(data, "__len__") else None, "fingerprint": _fingerprint(data)}


def _fingerprint(data: Any) -> str | None:
    own = data_fingerprint(data)
    if own is not None:
        return own
    if isinstance(data, TensorDataset):
        return tensor_fingerprint(*data.tensors)
    if isinstance(data, Subset):
        whole = _fingerprint(data.dataset)
        return None if whole is None else f"{whole}-{tensor_fingerprint(torch.tensor(list(data.indices)))}"
    return None


def _phrase(identity: Mapping[str, Any]) -> str:
    samples, fingerprint = identity.get("samples"), identity.get("fingerprint")
    count = "an unknown number of samples" if samples is None else f"{samples} samples"
    return f"{count} (fingerprint {fingerprint})" if fingerprint else count

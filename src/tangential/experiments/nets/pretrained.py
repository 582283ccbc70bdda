"""Pretrained weights: a `state_dict` that torch saved, or the name of a set that torchvision can download."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights


def pretrained(weights: str, arch: str) -> dict[str, Tensor]:
    """Pretrained weights of one of torchvision's networks.

    Args:
        weights: The path of a file that `torch.save` wrote of a `state_dict`, or torchvision's name of a set of
            weights, such as `IMAGENET1K_V1`. A name is downloaded once, into torch's cache.
        arch: torchvision's name of the network: `resnet18`, `vgg16_bn`.

    Returns:
        The `state_dict`, on the CPU.

    Raises:
        ValueError: Neither a file nor a known name, a file that holds no weights, or a name that cannot be downloaded.

    Examples:
        >>> pretrained("IMAGENET1K_V7", "resnet18")
        Traceback (most recent call last):
        ...
        ValueError: weights='IMAGENET1K_V7': no such file, and torchvision has only IMAGENET1K_V1 for resnet18
    """
    if Path(weights).is_file():
        return _read(weights)
    sets = {each.name: each for each in get_model_weights(arch)}
    chosen = sets.get(weights.rpartition(".")[2])
    if chosen is None:
        raise ValueError(f"weights={weights!r}: no such file, and torchvision has only {', '.join(sets)} for {arch}")
    try:
        return chosen.get_state_dict(check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:  # no network, a full disk, or a file whose hash is wrong
        why = (str(error) or type(error).__name__).partition("\n")[0]
        raise ValueError(
            f"weights={weights}: {chosen.url} cannot be downloaded ({why}); fetch it elsewhere and give weights=FILE"
        ) from error


def load_weights(module: Any, state: dict[str, Tensor], weights: str) -> None:
    """Load weights into a network that has some of their names; names that only the file has are its classifier.

    Raises:
        ValueError: A name or shape of the network that the weights do not have.
    """
    wanted = module.state_dict()
    # torch added `num_batches_tracked` after the first files of torchvision were made
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if missing or other:
        name = (missing + other)[0]
        shape = tuple(state[name].shape) if name in state else "nothing"
        raise ValueError(f"weights={weights}: {name} is {shape} there, the network needs {tuple(wanted[name].shape)}")
    module.load_state_dict({name: state.get(name, wanted[name]) for name in wanted})


def _read(path: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"weights={path}: torch cannot read the file; save it again as a state_dict") from error
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"weights={path}: the file holds no state_dict; save one with torch.save(model.state_dict())")
    return dict(state)

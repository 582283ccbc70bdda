"""Float64 copy of the user's model, and refusal of models that cannot be copied or analysed.

The copy is the only thing the analysis ever runs or changes. Parameters and buffers are copied straight to float64,
without a float32 copy in between, so that the copy costs 8 bytes per parameter.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import Parameter, is_lazy

from tangential.invariances.float64 import float64_dtype


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile, whose parameters are the same tensors.

    Raises:
        TypeError: Something that is not a module came.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"find_invariances: the model must be a torch.nn.Module, not {type(model).__name__}")
    while True:
        inner = model.module if isinstance(model, (DataParallel, DistributedDataParallel)) else None
        inner = inner or dict(model.named_children()).get("_orig_mod")
        if inner is None:
            return model
        model = inner


def refuse(model: nn.Module) -> None:
    """Raise ValueError for a model that cannot be analysed, saying what to do instead."""
    parameters = dict(model.named_parameters())
    if not any(parameter.requires_grad for parameter in parameters.values()):
        have = "only frozen parameters" if parameters else "no parameters"
        raise ValueError(f"find_invariances: {type(model).__name__} has {have}; there is nothing to find")
    for name, module in model.named_modules():
        if reason := _unusable_module(module):
            raise ValueError(f"find_invariances: module {name!r} {reason}")
    for name, parameter in parameters.items():
        if reason := _unusable(parameter):
            raise ValueError(f"find_invariances: parameter {name!r} {reason}")


_SHARDED = (
    "is sharded, and no process holds whole rows of it; analyse the model before wrapping it "
    "(the answer can be saved with to_json and applied to the wrapped model by name)"
)


def _unusable_module(module: nn.Module) -> str:
    if type(module).__name__ == "FullyShardedDataParallel":
        return _SHARDED
    if isinstance(module, torch.jit.ScriptModule) and dict(module.named_parameters(recurse=False)):
        return "is TorchScript, which hides its parameters and its arithmetic; analyse the model before scripting it"
    return ""


def _unusable(parameter: Tensor) -> str:
    if is_lazy(parameter):
        return "is not initialised yet; run the model once on a batch first"
    if parameter.is_meta:
        return "is on the meta device and has no values; build the model on a real device first"
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is not None and isinstance(parameter, tensors.DTensor):
        return _SHARDED
    return ""


def float64_copy(model: nn.Module) -> nn.Module:
    """A deep copy of `model` in float64, in training mode if the whole model was in evaluation mode.

    Raises:
        ValueError: The model holds something that Python cannot copy.
        MemoryError: The copy, 8 bytes per parameter, does not fit.
    """
    memo: dict[int, Any] = {
        id(parameter): _float64_twin(parameter) for parameter in model.parameters() if _plain(parameter)
    }
    memo |= {id(buffer): _float64_twin(buffer) for buffer in model.buffers()}
    memo |= {id(tensor): tensor.detach().clone() for tensor in _derived_tensors(model)}
    try:
        twin = copy.deepcopy(model, memo).double()
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"find_invariances works on a copy, and {type(model).__name__} cannot be copied ({error}); "
            "leave out what holds open files, locks or processes and try again"
        ) from error
    if not twin.training:
        twin.train()
    return twin


def _plain(parameter: Tensor) -> bool:
    return type(parameter) is Parameter


def _float64_twin(tensor: Tensor) -> Tensor:
    twin = tensor.detach().to(analysis_device(tensor.device), float64_dtype(tensor.dtype), copy=True)
    return Parameter(twin, requires_grad=tensor.requires_grad) if isinstance(tensor, Parameter) else twin


def analysis_device(device: torch.device) -> torch.device:
    """Where a tensor of this device is analysed: there, or on the CPU if the device has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def _derived_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a gradient history that modules keep as attributes; deepcopy refuses them.

    The weight that `torch.nn.utils.weight_norm` computes is one; the copy computes it anew.
    """
    for module in model.modules():
        attributes = {k: v for k, v in vars(module).items() if k not in ("_parameters", "_buffers", "_modules")}
        yield from (tensor for tensor in _tensors(attributes, depth=3) if not tensor.is_leaf)


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item, depth - 1)

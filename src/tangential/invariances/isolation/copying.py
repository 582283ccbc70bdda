"""Float64 copy of the user's model, and refusal of models that cannot be copied or analysed.

The copy is the only thing the analysis ever runs or changes. Parameters and buffers are copied straight to float64,
without a float32 copy in between, so that the copy costs 8 bytes per parameter.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import Parameter, is_lazy
from torch.overrides import TorchFunctionMode

from tangential.invariances.float64 import float64_dtype


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile, whose parameters are the same tensors.

    Raises:
        TypeError: Something that is not a module came.
    """
    if isinstance(model, torch.export.ExportedProgram):
        raise TypeError("find_invariances: an ExportedProgram came; pass its module, program.module()")
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
        ValueError: The model holds something that Python cannot copy, or its own way to copy makes another model.
        MemoryError: The copy, 8 bytes per parameter, does not fit.
    """
    memo: dict[int, Any] = {id(p): float64_twin(p) for p in model.parameters() if _plain(p)}
    memo |= {id(buffer): float64_twin(buffer) for buffer in model.buffers()}
    try:
        with Float64Copies():
            twin = copy.deepcopy(model, memo)
        twin = twin.double()
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"find_invariances works on a copy, and {type(model).__name__} cannot be copied ({error}); "
            "leave out what holds open files, locks or processes and try again"
        ) from error
    _rename(twin, model)
    if not twin.training:
        with contextlib.suppress(NotImplementedError):  # a graph of torch.export has one mode only
            twin.train()
    return twin


def _rename(twin: nn.Module, model: nn.Module) -> None:
    """Give the parameters of the copy the names they have in the model: Keras copies through a file format and renames.

    Raises:
        ValueError: They are not the same parameters in the same order.
    """
    for copied, own in zip(twin.modules(), model.modules(), strict=False):
        if copied._parameters.keys() != own._parameters.keys() and len(copied._parameters) == len(own._parameters):
            copied._parameters = dict(zip(own._parameters, copied._parameters.values(), strict=True))
    shapes, wanted = ([(name, p.shape) for name, p in each.named_parameters()] for each in (twin, model))
    if shapes != wanted:
        raise ValueError(
            f"find_invariances works on a copy, and copy.deepcopy makes another model of this {type(model).__name__}:"
            f" {next((a for a in wanted if a not in shapes), wanted[:1])} is not in it. Analyse the module inside of it"
        )


class Float64Copies(TorchFunctionMode):
    """While active, `copy.deepcopy` copies tensors to float64, wherever it meets them.

    It takes those with a history, too, which torch refuses: the weight that `torch.nn.utils.weight_norm` computes is
    one, and the copy computes it anew.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Copy a tensor; any other function runs as it is."""
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = float64_twin(tensor)
        return memo[id(tensor)]


def _plain(parameter: Tensor) -> bool:
    return type(parameter) is Parameter


def float64_twin(tensor: Tensor) -> Tensor:
    """A copy in float64, without history and without bits that are still to be applied; other types keep theirs."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    twin = plain.to(analysis_device(tensor.device), float64_dtype(tensor.dtype), copy=True)
    if isinstance(tensor, Parameter):
        return Parameter(twin, requires_grad=tensor.requires_grad)
    return twin.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def analysis_device(device: torch.device) -> torch.device:
    """Where a tensor of this device is analysed: there, or on the CPU if the device has no float64."""
    return torch.device("cpu") if device.type == "mps" else device

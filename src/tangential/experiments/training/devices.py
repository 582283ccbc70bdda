"""Devices, precision and processes of a run, set up by Lightning Fabric; what processes exchange."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning.fabric import Fabric

T = TypeVar("T")

PRECISIONS = {"32": "32-true", "64": "64-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}
STRATEGIES = ("auto", "ddp")
_SHARDED = ("fsdp", "deepspeed", "model_parallel", "xla_fsdp", "tensor")


def start(
    *,
    devices: int | None = None,
    nodes: int | None = None,
    strategy: str = "auto",
    accelerator: str = "auto",
    precision: str = "32",
) -> Fabric:
    """Fabric of a command; with several processes, this starts the others or, under torchrun, joins them.

    Args:
        devices: Processes on this machine, one to a device; if not given, what torchrun started, else 1.
        nodes: Machines; if not given, what torchrun started, else 1.
        strategy: "ddp", each process with the whole model and a shard of each batch; "auto" is that, or one process.
        accelerator: "cpu", "cuda", "mps", or "auto" for the best there is.
        precision: "32", "64" (for comparisons), "bf16-mixed", or "16-mixed" on a GPU, with a scaled loss.

    Raises:
        ValueError: A choice that is unknown, sharded, or not available on this machine.
    """
    _check_choice("precision", precision, tuple(PRECISIONS))
    if strategy.partition("_")[0] in _SHARDED or strategy in _SHARDED:
        raise ValueError(
            f"strategy={strategy}: sharded weights are not supported yet, because a shard does not hold the whole of a"
            " scale-invariant block, so SGDP and AdamP would step wrongly; use ddp"
        )
    _check_choice("strategy", strategy, STRATEGIES)
    if precision == "16-mixed" and (accelerator == "cpu" or not torch.accelerator.is_available()):
        raise ValueError("precision=16-mixed needs a GPU; on a CPU use bf16-mixed")
    devices, nodes = _processes(devices, nodes)
    from lightning.fabric import Fabric  # four seconds, which commands that train nothing are spared

    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its lines about devices are in environment.json
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError, ImportError) as error:  # a missing GPU is reported in many forms
        raise ValueError(f"accelerator={accelerator}, devices={devices}: {str(error).splitlines()[0]}") from error
    fabric.launch()
    return fabric


def where(fabric: Fabric) -> dict[str, Any]:
    """Device and number of processes, as JSON's own types."""
    device = fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "processes": fabric.world_size}


def from_first(fabric: Fabric, call: Callable[[], T]) -> T:
    """Result of a call in the first process alone, or its error, in every process."""
    if fabric.world_size == 1:
        return call()
    answer: tuple[T | None, Exception | None] = (None, None)
    if fabric.is_global_zero:
        try:
            answer = (call(), None)
        except Exception as error:  # the others must not wait for a process that has gone
            answer = (None, error)
    answer = fabric.broadcast(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]  # type: ignore[return-value]


def add_up(fabric: Fabric, tensors: Iterable[Tensor]) -> None:
    """All-reduce: replace each tensor by its sum over all processes, in one message for each dtype.

    Processes train as one through this alone, whatever the model does: losses may run it several times, attack its
    inputs, or use its parameters directly, where `DistributedDataParallel` needs one forward for each backward.
    """
    if fabric.world_size == 1:
        return
    for alike in _by_dtype(tensors):
        flat = torch.cat([tensor.flatten() for tensor in alike])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(part.view_as(tensor))


def add_up_gradients(fabric: Fabric, parameters: Iterable[Tensor]) -> None:
    """All-reduce of gradients; where a process has none for a parameter and another has, it counts as zero."""
    if fabric.world_size == 1:
        return
    parameters = list(parameters)
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=fabric.device)
    torch.distributed.all_reduce(there)
    for p, count in zip(parameters, there.tolist(), strict=True):
        if count and p.grad is None:
            p.grad = torch.zeros_like(p)
    add_up(fabric, [p.grad for p in parameters if p.grad is not None])


def placed(fabric: Fabric, samples: Any) -> Any:
    """Batch on the device of the model, and in double precision if the model is."""
    if fabric.device.type != "cpu":
        samples = fabric.to_device(samples)
    precision = fabric.strategy.precision
    return precision.convert_input(samples) if precision.precision == "64-true" else samples


def random_states(fabric: Fabric) -> list[dict[str, Tensor]]:
    """States of torch's global generators, process by process."""
    own = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(fabric.device)
    if fabric.world_size == 1:
        return [own]
    states: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(states, own)
    return states


def set_random_state(fabric: Fabric, state: dict[str, Tensor]) -> None:
    """Put back the state of torch's global generators of one process."""
    torch.set_rng_state(state["cpu"])
    if fabric.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], fabric.device)


def same_weights(fabric: Fabric, model: nn.Module) -> None:
    """Broadcast the first process's weights and buffers, which the others have already if all drew the same numbers."""
    if fabric.world_size > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(tensor.detach(), src=0)


def _by_dtype(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


def _processes(devices: int | None, nodes: int | None) -> tuple[int, int]:
    """Processes on this machine and number of machines, as given, or as torchrun started them."""
    if not torch.distributed.is_torchelastic_launched():
        return devices or 1, nodes or 1
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = int(os.environ["WORLD_SIZE"]) // here
    if (devices or here, nodes or machines) != (here, machines):
        raise ValueError(
            f"--devices {devices or here} --nodes {nodes or machines}, but torchrun started {here} processes on each of"
            f" {machines} machines; leave both options away under torchrun"
        )
    return here, machines


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value}: choose from {', '.join(allowed)}")

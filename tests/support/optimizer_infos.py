"""SGDP and AdamP as entries of torch's own table of optimizers, `torch.testing._internal.common_optimizers`.

Each entry gives the configurations to try; `every_input` adds the backends. A second pair of entries splits every group
in two, what has two dimensions under `Blocks()` and the rest under None, because the templates put matrices, vectors
and scalars into one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, LinearLR, PolynomialLR, ReduceLROnPlateau, StepLR
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    OptimizerInput,
)

from tangential import SGDP, AdamP, Blocks

SHARED = {
    "default": dict(),
    "lr": dict(lr=0.01),
    "weight decay": dict(weight_decay=0.1),
    "maximize": dict(weight_decay=0.1, maximize=True),
    "nesterov": dict(weight_decay=0.1, nesterov=True),
    "delta 0": dict(delta=0.0),
    "delta 5": dict(delta=5.0, wd_ratio=0.5, weight_decay=0.1),
    "capturable": dict(capturable=True),
    "capturable, tensor lr": dict(capturable=True, lr=torch.tensor(0.001), weight_decay=0.1),
    "tensor lr": dict(lr=torch.tensor(0.001)),
}
WITHOUT_BLOCKS = {
    "blocks None": dict(blocks=None, weight_decay=0.1),
    "sticky": dict(blocks="sticky", weight_decay=0.1),
    "sticky, capturable": dict(blocks="sticky", capturable=True),
}
OF_ADAMP = {"betas, eps": dict(betas=(0.8, 0.95), eps=1e-6), "betas as a list": dict(betas=[0.9, 0.99])}
OF_SGDP = {
    "momentum": dict(momentum=0.9),
    "dampening": dict(momentum=0.9, dampening=0.5),
    "momentum, decay": dict(momentum=0.9, weight_decay=0.1),
    "momentum, nesterov": dict(momentum=0.9, weight_decay=0.1, nesterov=True),
    "momentum, maximize": dict(momentum=0.9, weight_decay=0.1, maximize=True),
    "momentum, tensor lr": dict(momentum=0.9, capturable=True, lr=torch.tensor(0.001)),
}
BACKENDS: dict[str, dict[str, bool]] = {
    "automatic": {},
    "eager": dict(foreach=False, fused=False),
    "foreach": dict(foreach=True),
    "fused": dict(fused=True),
    "differentiable": dict(differentiable=True),
}
SCHEDULES: tuple[list[Callable[[Any], Any]], ...] = (
    [lambda o: ExponentialLR(o, gamma=0.9)],
    [lambda o: LinearLR(o, start_factor=0.4, total_iters=4)],
    [lambda o: ConstantLR(o, factor=0.4, total_iters=4), lambda o: ExponentialLR(o, gamma=0.9)],
    [lambda o: ExponentialLR(o, gamma=0.9), lambda o: ReduceLROnPlateau(o)],
    [lambda o: PolynomialLR(o, power=0.9, total_iters=4)],
    [lambda o: StepLR(o, gamma=0.9, step_size=10), lambda o: ReduceLROnPlateau(o)],
)


def split(cls: type) -> type:
    """The class with every group parted into matrices under `Blocks()` and the rest under None."""

    class Split(cls):
        def add_param_group(self, group: dict[str, Any]) -> None:
            given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            for matrices in (True, False):
                some = [x for x in given if ((x[1] if isinstance(x, tuple) else x).ndim > 1) is matrices]
                if some:
                    super().add_param_group({**group, "params": some, "blocks": Blocks() if matrices else None})

    Split.__name__ = f"{cls.__name__}Blocks"
    return Split


def info(cls: type, configurations: dict[str, dict[str, Any]]) -> OptimizerInfo:
    """The entry of a class."""

    def inputs(device: Any, dtype: Any = None) -> list[OptimizerInput]:
        made = [
            (desc, {k: v.clone() if isinstance(v, Tensor) else v for k, v in c.items()})
            for desc, c in configurations.items()
        ]
        return [OptimizerInput(params=None, kwargs=kwargs, desc=desc) for desc, kwargs in made]

    return OptimizerInfo(
        cls,  # type: ignore[arg-type]  # torch's annotation means the class
        optim_inputs_func=inputs,
        scheduler_inputs=SCHEDULES,
        supported_impls=("foreach", "differentiable", "fused"),
        not_og_supported_flags=(
            "foreach",
            "differentiable",
            "fused",
            "maximize",
            "capturable",
            "blocks",
            "compensation",
        ),
        has_capturable_arg=True,
        supports_fused_on=("cpu",),
    )


INFOS = {
    "AdamP": info(AdamP, SHARED | WITHOUT_BLOCKS | OF_ADAMP),
    "SGDP": info(SGDP, SHARED | WITHOUT_BLOCKS | OF_SGDP),
    "AdamP, Blocks": info(split(AdamP), SHARED | OF_ADAMP),
    "SGDP, Blocks": info(split(SGDP), SHARED | OF_SGDP),
}


def every_input(entry: OptimizerInfo, *backends: str) -> Iterator[OptimizerInput]:
    """All configurations of an entry, each with these backends. (torch's own helper leaves out foreach on a CPU.)"""
    for given in entry.optim_inputs_func("cpu"):
        for backend in backends:
            kwargs = {**given.kwargs, **BACKENDS[backend]}
            yield OptimizerInput(params=None, kwargs=kwargs, desc=f"{given.desc} & {backend}")

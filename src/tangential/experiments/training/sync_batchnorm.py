"""BatchNorm of split batches: statistics over all processes, and no batch of a single sample.

With statistics over the samples of every process, a result does not depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from tangential.experiments.task import Objective
    from tangential.experiments.training.resumable_loader import ResumableLoader

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _SumOfAll(Function):
    """The sum of a tensor over processes. Each process's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _SumOfAll.forward(ctx, grads[0])


class SharedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` in plain torch, for processes on CPUs; made by `share_batch_norm`."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Nothing to check: the module that it replaces had its own dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise with the mean and variance over every process's samples while training."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        wide = input if input.dtype == torch.float64 else input.float()
        count = _SumOfAll.apply(wide.new_tensor(float(input.numel() // input.shape[1])))
        mean = _SumOfAll.apply(wide.sum(dims)) / count
        centred = wide - mean.view(shape)
        variance = _SumOfAll.apply(centred.square().sum(dims)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        normal = (centred * (variance + self.eps).rsqrt().view(shape)).to(input.dtype)
        return normal * self.weight.view(shape) + self.bias.view(shape) if self.affine else normal

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages, as torch's BatchNorm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def share_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let a model's BatchNorms take their statistics over all processes; parameters and names stay.

    Args:
        model: Changed in place, unless it is a BatchNorm itself.
        device: Where it will run: on a GPU, torch's own `SyncBatchNorm` does it.

    Returns:
        The model.

    Raises:
        ValueError: A subclass of BatchNorm, which does more than BatchNorm and cannot be replaced.

    Examples:
        >>> model = share_batch_norm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), torch.device("cpu"))
        >>> type(model[1]).__name__, list(model.state_dict())[2]
        ('SharedBatchNorm', '1.weight')
    """
    if type(model) in _PLAIN:
        return _shared(model, device)
    if isinstance(model, _BatchNorm) and not isinstance(model, nn.SyncBatchNorm | SharedBatchNorm):
        raise ValueError(
            f"the model has a {type(model).__name__}, whose statistics several processes cannot share; use one process,"
            " or a net with torch's own BatchNorm"
        )
    for name, child in model.named_children():
        setattr(model, name, share_batch_norm(child, device))
    return model


def check_smallest_batch(
    model: nn.Module, objectives: Sequence[Objective], loader: ResumableLoader, fabric: Fabric, *, batch_size: int
) -> None:
    """Try a last batch of one sample, of which BatchNorm takes no statistics, before an epoch is spent.

    Weights, buffers and generators are as before.

    Args:
        model: The model that is trained.
        objectives: What it is trained for.
        loader: Its training batches.
        fabric: Where it runs; several processes have several samples.
        batch_size: For the error.

    Raises:
        ValueError: A loss fails on one sample, as it would at the end of the first epoch.
    """
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    if loader.least_samples != 1 or not normed or fabric.world_size > 1:
        return
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), fabric.autocast():
            for each in objectives:
                each.loss(model.train(), loader.sample())
    except (ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"batch_size={batch_size}: with {loader.samples} samples the last batch of an epoch has one for a process"
            f" to take at once, which BatchNorm cannot take ({first}); choose another batch_size"
        ) from error
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def _shared(plain: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert isinstance(plain, _BatchNorm)
    shared = SharedBatchNorm(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
    shared.weight, shared.bias = plain.weight, plain.bias
    shared.running_mean, shared.running_var = plain.running_mean, plain.running_var
    shared.num_batches_tracked = plain.num_batches_tracked
    return shared.train(plain.training)

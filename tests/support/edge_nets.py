"""The parts that the edge cases of the detector are built of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Conv, Seq = nn.Conv2d, nn.Sequential


class Net(nn.Module):
    """A function of its own modules and parameters."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class SignWeights(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, w):
        return w.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad


class TransposedLinear(nn.Module):
    """`x @ weight`, as GPT-2's Conv1D."""

    def __init__(self, out: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, out) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class FrozenBatchNorm(nn.Module):
    """An affine map with the shape of a batch normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.view(1, -1, 1, 1) + (self.bias - self.running_mean * scale).view(1, -1, 1, 1)


def pictures() -> Tensor:
    return torch.randn(4, 3, 10, 10)


def sequences() -> Tensor:
    return torch.randn(6, 7, 12)


def vectors() -> Tensor:
    return torch.randn(16, 12)


def ids() -> Tensor:
    return torch.randint(0, 20, (4, 20))


def every_id() -> Tensor:
    return torch.arange(40).view(2, 20) % 20


def top(channels: int = 8) -> nn.Module:
    """Something that is not homogeneous, after a convolution."""
    return Seq(nn.Tanh(), Conv(channels, 5, 3))


def tail(width: int = 8) -> nn.Module:
    """The same after a linear layer."""
    return Seq(nn.Tanh(), nn.Linear(width, 5))


def random(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.3)


def ones(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape))


def conv(channels: int = 8, **options: Any) -> nn.Conv2d:
    return Conv(3, channels, 3, **{"bias": False, **options})


def norm(channels: int = 8, **options: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, **options)


def zeroed(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    return model


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def evaluating(model: nn.Sequential, index: int) -> nn.Module:
    model[index].eval()
    return model


def standardised(net, x):
    w = net.w - net.w.mean((1, 2, 3), keepdim=True)
    w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
    return net.h(F.conv2d(x, w * net.g) + x.mean())


def transposed_qk_norm(net, x):
    batch, length, _ = x.shape
    q, k, v = (t.view(batch, length, 3, 4).transpose(1, 2) for t in net.c(x).split(12, -1))
    mixed = F.scaled_dot_product_attention(F.rms_norm(q, (4,)), F.rms_norm(k, (4,)), v)
    return net.h(mixed.transpose(1, 2).reshape(batch, length, 12))


def cosine_classifier(net, x):
    return net.t * (F.normalize(x.tanh(), dim=-1) @ F.normalize(net.w, dim=-1).t())


def over_largest(net, x):
    y = net.l(x)
    return net.h(y / y.abs().amax((1, 2), keepdim=True))


def by_hand(net, x):
    y = net.l(x * 1e-3)
    return net.h(y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotated(net, x):
    return net.h(torch.matrix_exp(net.w - net.w.t()) @ x.transpose(1, 2)).mean(1)


def adapted(net, x):
    return net.h(net.n(F.conv2d(x, net.w + (net.b @ net.a).view(8, 3, 3, 3))))


def unused_expert(net, x):
    return net.h(net.n(x @ net.e[0].t()) + net.n(x @ net.e[1].t()))


def tied(net, i):
    return F.rms_norm(net.e(i), (12,)).tanh() @ net.e.weight.t()


def cat_with_input(net, x):
    return net.h(net.n(torch.cat([net.a(x), x], 1)))


def cat_both(net, x):
    return net.h(net.n(torch.cat([net.a(x), net.b(x)], 1)))


def small(**norm: Any) -> nn.Sequential:
    """Convolution, batch normalisation, and something that is not homogeneous."""
    return Seq(Conv(3, 8, 3), nn.BatchNorm2d(8, **norm), nn.Tanh(), Conv(8, 5, 3))


class Residual(nn.Module):
    """Branches of which `source` decides at random, each time, whether they run."""

    def __init__(self, source, activation=nn.ReLU):
        super().__init__()
        self.source = source
        self.start = nn.Linear(12, 12)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 12, bias=False), activation(), nn.RMSNorm(12), nn.Tanh()) for _ in range(6)
        )

    def forward(self, x):
        x = self.start(x)
        for branch in self.branches:
            if self.source() < 0.5:
                x = x + branch(x)
        return x


class Wrapped(nn.Module):
    """`small` as a submodule, run by a function."""

    def __init__(self, run):
        super().__init__()
        self.net = small()
        self.run = run

    def forward(self, x):
        return self.run(self.net, x)


# What a change of the model does to the answer.

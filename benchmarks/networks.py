"""What the step-time benchmark steps: the parameters of four networks, and gradients that pass the test or not."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

NETWORKS = ("mobilenet_v2", "resnet50", "vit_b_16", "gpt2")


def shapes(name: str) -> list[tuple[int, ...]]:
    """The shapes of all parameters, in order."""
    if name == "tiny":
        return [(16, 8, 3, 3), (16,), (32, 16), (32,), (40, 1, 3, 3)]
    if name == "gpt2":
        block = [(768,), (768,), (2304, 768), (2304,), (768, 768), (768,)]
        block += [(768,), (768,), (3072, 768), (3072,), (768, 3072), (768,)]
        return [(50257, 768), (1024, 768), *block * 12, (768,), (768,)]
    with torch.device("meta"):
        return [tuple(p.shape) for p in getattr(torchvision.models, name)().parameters()]


def parameters(name: str, device: str = "cpu") -> list[nn.Parameter]:
    """Parameters of these shapes with random values."""
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, device=device) * 0.02 + (len(shape) == 1)) for shape in shapes(name)]


@torch.no_grad()
def give_gradients(params: list[nn.Parameter], fires: bool) -> None:
    """Random gradients; without a radial part, so that the paper's test fires for every matrix, or as they come."""
    torch.manual_seed(1)
    for p in params:
        x = torch.randn_like(p)
        p.grad = tangent(p, x) if fires and p.ndim > 1 else x


def tangent(w: Tensor, x: Tensor) -> Tensor:
    """`x` without its part along `w`, per output channel."""
    rows, others = w.flatten(1), x.flatten(1)
    along = (rows * others).sum(1) / (rows * rows).sum(1)
    return (others - rows * along[:, None]).view_as(x)

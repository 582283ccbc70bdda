"""Share of the optimizer in a whole training step, of a small convolutional and a small language model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tangential import AdamP


class Gpt(nn.Module):
    """Four transformer blocks of width 256 over 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4096, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 4096, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, 64)` tokens to `(batch, 64, 4096)`."""
        return self.head(self.blocks(self.table(x)))


def resnet18() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """ResNet-18 on 16 images of 64 x 64."""
    x, y = torch.randn(16, 3, 64, 64), torch.randint(0, 10, (16,))
    return torchvision.models.resnet18(num_classes=10), lambda net: nn.functional.cross_entropy(net(x), y)


def small_gpt() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """The language model on 8 sequences."""
    x = torch.randint(0, 4096, (8, 64))
    return Gpt(), lambda net: nn.functional.cross_entropy(net(x).flatten(0, 1), x.flatten())


MODELS = {"resnet18": resnet18, "small gpt": small_gpt}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "torch AdamW fused": lambda params: AdamW(params, 1e-3, fused=True),
    "AdamP cosine fused": lambda params: AdamP(params, 1e-3, fused=True),
    "AdamP cosine foreach": lambda params: AdamP(params, 1e-3, foreach=True),
}


def shares(rounds: int, device: str = "cpu") -> list[dict[str, object]]:
    """Seconds of the optimizer and of the whole step, medians."""
    found = []
    for model, make in MODELS.items():
        for name, optimizer in OPTIMIZERS.items():
            torch.manual_seed(0)
            with torch.device(device):
                net, loss = make()
            steps, wholes = zip(*_times(net, loss, optimizer(net.parameters()), rounds), strict=True)
            step, whole = statistics.median(steps), statistics.median(wholes)
            found.append(dict(model=model, optimizer=name, step=step, whole=whole, share=step / whole))
    return found


def _times(
    net: nn.Module, loss: Callable[[nn.Module], Tensor], optimizer: Optimizer, rounds: int
) -> list[tuple[float, float]]:
    found = []
    for _ in range(rounds + 1):
        start = _now()
        optimizer.zero_grad()
        loss(net).backward()
        middle = _now()
        optimizer.step()
        end = _now()
        found.append((end - middle, end - start))
    return found[1:]


def _now() -> float:
    """Seconds, after all kernels on a GPU have finished."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()

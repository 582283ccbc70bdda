"""What the examples in this folder train: a net with scale-invariant weights, on images that it learns by heart."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

_random = torch.Generator().manual_seed(1)
images = torch.randn(64, 3, 8, 8, generator=_random)
labels = torch.randint(0, 5, (64,), generator=_random)


def net() -> nn.Module:
    """Two normalised convolutions and a linear head."""
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    second = [nn.Conv2d(8, 8, 3, bias=False), nn.GroupNorm(2, 8), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 5))


def loader() -> DataLoader:
    """Four batches of 16 images."""
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def demo(train: Callable) -> None:
    """Train for two epochs, go on from the checkpoint, and show how far a step turns the weights."""
    folder = Path("runs/trainers") / Path(train.__code__.co_filename).stem
    folder.mkdir(parents=True, exist_ok=True)
    train(folder, epochs=2)
    _, telemetry = train(folder, epochs=4, resume=True)
    print(f"step {telemetry.step}: angle {telemetry.latest['summary']['angle']['median']:.4f}")

"""Swap one import: AdamP where AdamW was."""

import torch
from torch import nn

from tangential import AdamP

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
images, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 10, (32,))
model(images)  # sets the lazy layer's size

optimizer = AdamP(model.parameters(), lr=1e-3, weight_decay=1e-2)
for step in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    if step % 5 == 0:
        print(f"step {step:2d}  loss {loss.item():.3f}")

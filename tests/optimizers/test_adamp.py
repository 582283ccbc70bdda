"""AdamP's own rule."""

import torch
from torch import nn

from support.weights import gap
from tangential import AdamP


def test_adamp_is_adamw_where_nothing_is_invariant():
    model, twin = (nn.Linear(4, 3).double() for _ in range(2))
    twin.load_state_dict(model.state_dict())
    x = torch.randn(8, 4, dtype=torch.float64)
    ours = AdamP(model.parameters(), lr=1e-2, weight_decay=0.1, delta=0.0)
    theirs = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1)
    for net, optimizer in ((model, ours), (twin, theirs)):
        for _ in range(10):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    assert gap([p.detach() for p in model.parameters()], [p.detach() for p in twin.parameters()]) < 1e-13

"""SGDP's own rule."""

import torch
from torch import nn

from support.weights import give_gradients, weights
from tangential import SGDP


def test_sgdp_first_step_is_dampened():
    w = nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    SGDP([w], lr=1.0, momentum=0.9, dampening=0.25).step()
    torch.testing.assert_close(w.detach(), torch.full((2,), 0.25))


def test_sgdp_buffer_is_never_projected():
    w = weights(shapes=[(4, 6)])
    plain = [w[0].detach().clone().requires_grad_()]
    ours, sgd = SGDP(w, lr=0.1, momentum=0.9), torch.optim.SGD(plain, lr=0.1, momentum=0.9)
    for step in range(3):
        give_gradients(w, step)
        plain[0].grad = w[0].grad.clone()
        ours.step()
        sgd.step()
    torch.testing.assert_close(ours.state[w[0]]["momentum_buffer"], sgd.state[plain[0]]["momentum_buffer"])
    assert not torch.allclose(w[0], plain[0])

"""Both optimizers with settings that use all of a step: what the tests of one parametrise over."""

import pytest
import torch

from support.weights import run, weights
from tangential import SGDP, AdamP

MAKERS = {
    "adamp": lambda params, **kw: AdamP(params, **{"lr": 1e-2, "weight_decay": 0.1, **kw}),
    "sgdp": lambda params, **kw: SGDP(params, **{"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1, **kw}),
}

MOMENTS = {"adamp": {"exp_avg", "exp_avg_sq"}, "sgdp": {"momentum_buffer"}}

every = pytest.mark.parametrize("name", MAKERS)
foreach_too = pytest.mark.parametrize("foreach", [False, True, None])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def trained(name, steps=3, shapes=((4, 6), (6, 5)), **settings):
    """An optimizer after some steps, and its parameters."""
    params = weights(shapes=list(shapes))
    optimizer = MAKERS[name](params, **settings)
    run(optimizer, params, steps)
    return optimizer, params

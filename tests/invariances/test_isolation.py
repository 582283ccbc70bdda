"""The user's model, its gradients and every random state stay as they are."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from support.edge_nets import Residual, pictures, small
from support.zoo import GPT, Normalised, dcgan, images, tokens
from tangential import Blocks
from tangential.invariances import find_invariances


def everything(model):
    """All that find_invariances must not change, comparable."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {name: (id(t), t._version, t.detach().clone()) for name, t in tensors.items()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "hooks": [[len(v) for k, v in vars(m).items() if k.endswith("_hooks") and v] for m in model.modules()],
        "attributes": [{k: v for k, v in vars(m).items() if isinstance(v, (int, float, str))} for m in model.modules()],
        "dtype": torch.get_default_dtype(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
    }


def equal(a, b):
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


MODELS = {
    "batch norm": lambda: (small(), pictures()),
    "power iterations": lambda: (Normalised(), images(2, 24)),
    "transposed": lambda: (dcgan(), torch.randn(4, 20, 1, 1)),
    "tied": lambda: (GPT(tied=True), tokens()),
    "random routes": lambda: (Residual(random.random), torch.randn(6, 12)),
    "dropout": lambda: (nn.Sequential(nn.Linear(12, 8), nn.Dropout(), nn.Linear(8, 3)), torch.randn(6, 12)),
}


class Growing(nn.Module):
    """Keeps every batch it saw in a buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.register_buffer("seen", torch.zeros(0, 12))

    def forward(self, x):
        self.seen = torch.cat([self.seen, x])
        return self.linear(x) + len(self.seen)


def test_buffers_that_change_their_shape_start_anew_each_run():
    model = Growing()
    assert find_invariances(model, torch.randn(6, 12))["linear.weight"] is None
    assert model.seen.shape == (0, 12)


@pytest.mark.parametrize("name", MODELS)
def test_users_model_is_untouched(name):
    model, x = MODELS[name]()
    model.register_forward_hook(lambda *_: None)
    model(x)  # counters and power iterations leave their start
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = everything(model)
    find_invariances(model, x)
    assert equal(before, everything(model))


def test_users_model_is_untouched_when_it_fails():
    model = small()
    model.calls = 0
    runs = iter(range(1))  # not the model's own counter, which is put back after each run

    def fail(copied, x):
        random.random(), np.random.rand(), torch.rand(1)
        out = copied(x)
        copied.calls += 1
        if next(runs, None) is None:
            raise RuntimeError("half way")
        return out

    x = pictures()
    before = everything(model)
    with pytest.raises(ValueError, match="half way"):
        find_invariances(model, x, forward=fail)
    assert equal(before, everything(model))


def test_a_loss_with_weights_of_its_own_keeps_their_gradients():
    proxies = nn.Parameter(torch.randn(5))
    proxies.grad = torch.ones(5)
    found = find_invariances(small(), pictures(), forward=lambda m, x: (m(x).mean((2, 3)) * proxies).sum())
    assert found["0.weight"] == Blocks()
    assert torch.equal(proxies.grad, torch.ones(5))


def test_the_same_seed_gives_the_same_answer():
    model, x = small(), pictures()
    assert find_invariances(model, x, seed=3).to_json() == find_invariances(model, x, seed=3).to_json()


def test_a_copy_of_the_model_gets_the_same_answer():
    model, x = small(), pictures()
    assert find_invariances(copy.deepcopy(model), x).to_json() == find_invariances(model, x).to_json()


class Renamed(nn.Module):
    """Names of parameters are new in every copy, as those of Keras layers are."""

    def __init__(self, copies=0):
        super().__init__()
        self.copies = copies
        self.norm = nn.BatchNorm1d(4)
        self.weights = nn.ParameterDict({f"kernel_{copies}": nn.Parameter(torch.randn(4, 3))})

    def forward(self, x):
        return self.norm(nn.functional.linear(x, *self.weights.parameters()))

    def __deepcopy__(self, memo):
        copied = Renamed(self.copies + 1)
        copied.load_state_dict(dict(zip(copied.state_dict(), self.state_dict().values(), strict=True)))
        return copied


def test_a_copy_with_other_names_is_analysed_under_the_models():
    model = Renamed()
    found = find_invariances(model, torch.randn(8, 3))
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert found["weights.kernel_0"] == Blocks()
    assert len(found.param_groups(model)) == 2


def test_a_copy_that_is_another_model_is_refused():
    model = Renamed()
    model.__class__ = type("Other", (Renamed,), {"__deepcopy__": lambda self, memo: nn.Linear(3, 4)})
    with pytest.raises(ValueError, match=r"copy\.deepcopy makes another model of this Other"):
        find_invariances(model, torch.randn(8, 3))

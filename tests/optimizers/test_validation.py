"""What optimizers refuse, and in which words."""

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, every, same
from support.weights import weights
from tangential import SGDP, AdamP, Blocks


@every
@pytest.mark.parametrize("foreach", [False, True])
def test_sparse_gradient_is_refused_before_anything_moves(name, foreach):
    table = nn.Embedding(5, 3, sparse=True)
    head = nn.Linear(3, 2)
    head(table(torch.tensor([1, 2]))).sum().backward()
    optimizer = MAKERS[name]([dict(params=head.parameters()), dict(params=table.parameters())], foreach=foreach)
    before = [p.detach().clone() for p in head.parameters()]
    with pytest.raises(ValueError, match=r"sparse_coo gradient .*\(5, 3\).*sparse=False"):
        optimizer.step()
    assert same([p.detach() for p in head.parameters()], before)
    assert not optimizer.state[head.weight] or optimizer.state[head.weight]["step"] == 0


BAD = [
    (dict(lr=-1.0), ValueError, "lr=-1.0: must be finite and at least 0"),
    (dict(lr=float("nan")), ValueError, "lr=nan"),
    (dict(lr=1.1e18), ValueError, r"lr=1.1e\+18: must be finite and at least 0, at most 1e\+18"),
    (dict(weight_decay=1e39), ValueError, r"weight_decay=1e\+39"),
    (dict(eps=float("inf")), ValueError, "eps=inf"),
    (dict(delta=10**400), ValueError, "delta=1"),
    (dict(lr="0.1"), TypeError, "lr='0.1': must be a number"),
    (dict(lr=torch.ones(2)), ValueError, r"shape \(2,\)"),
    (dict(eps=-1e-8), ValueError, "eps=-1e-08"),
    (dict(weight_decay=-1), ValueError, "weight_decay=-1"),
    (dict(delta=-0.1), ValueError, "delta=-0.1"),
    (dict(wd_ratio=5), ValueError, r"wd_ratio=5: must be in \[0, 1\]"),
    (dict(nesterov=1), TypeError, "nesterov=1: must be True or False"),
    (dict(blocks="channels"), ValueError, "blocks='channels'"),
    (dict(blocks=3), TypeError, "blocks=3"),
    (dict(fused="yes"), TypeError, "fused='yes'"),
    (dict(foreach=True, fused=True), ValueError, "ask for one"),
    (dict(fused=True, differentiable=True), ValueError, "one tensor at a time"),
    (dict(foreach="yes"), TypeError, "foreach='yes'"),
    (dict(foreach=True, differentiable=True), ValueError, "one tensor at a time"),
    (dict(blocks=Blocks(dim=5)), ValueError, "cuts dimension 5"),
]


@every
@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_settings_are_refused_in_the_constructor_and_in_groups(name, settings, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](weights(), **settings)
    optimizer = MAKERS[name](weights())
    if "differentiable" not in settings:
        with pytest.raises(error, match=message):
            optimizer.add_param_group(dict(params=[torch.ones(3, 2, requires_grad=True)], **settings))
        assert len(optimizer.param_groups) == 1


@every
@pytest.mark.parametrize(
    "backend", [dict(), dict(foreach=True), dict(foreach=False)], ids=["default", "foreach", "eager"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_step_at_the_largest_settings_raises_nothing(name, dtype, backend):
    largest = dict(lr=1e18, weight_decay=1e18, eps=1e18, delta=1e18)
    for settings in (*({key: value} for key, value in largest.items()), largest):
        params = weights(dtype)
        optimizer = MAKERS[name](params, **{**backend, **settings})
        for _ in range(2):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (AdamP, dict(betas=(0.9, 1.0)), r"betas=1.0: must be two numbers in \[0, 1\)"),
        (SGDP, dict(momentum=1.0), r"momentum=1.0: must be in \[0, 1\)"),
        (SGDP, dict(dampening=float("inf")), "dampening=inf"),
    ],
)
def test_settings_of_one_rule_are_checked(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(weights(), **settings)


@every
def test_unknown_arguments_are_refused(name):
    with pytest.raises(TypeError, match="wd_ration"):
        MAKERS[name](weights(), wd_ration=0.1)


@every
def test_flat_weights_are_refused(name):
    flat = torch.ones(4, requires_grad=True)
    flat._fsdp_flattened = True
    with pytest.raises(ValueError, match="flat parameter"):
        MAKERS[name]([flat])

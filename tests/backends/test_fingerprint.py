"""A kernel's plan is used while all tensors are as they were when it was made, and never after."""

from weakref import ref

import pytest
import torch

from tangential import SGDP, AdamP

RULES = {"adamp": lambda p: AdamP(p, lr=0.1), "sgdp": lambda p: SGDP(p, lr=0.1, momentum=0.9)}
KEYS = [("adamp", "exp_avg"), ("adamp", "exp_avg_sq"), ("sgdp", "momentum_buffer")]


def stepped(rule, blocks="cosine"):
    """An optimizer after two steps, for which a plan is kept, and its weight."""
    torch.manual_seed(0)
    w = torch.randn(4, 4).requires_grad_()
    optimizer = RULES[rule]([dict(params=[w], blocks=blocks)])
    for _ in range(2):
        w.grad = torch.randn(4, 4)
        optimizer.step()
    return optimizer, w, optimizer.state[w]


@pytest.mark.parametrize(("rule", "key"), [*KEYS, ("adamp", "step"), ("sgdp", "step"), ("adamp", "votes")])
@pytest.mark.parametrize("size", [0, 1])
def test_state_whose_storage_was_resized_is_refused(rule, key, size):
    optimizer, w, own = stepped(rule, "sticky" if key == "votes" else "cosine")
    own[key].untyped_storage().resize_(size)
    before = w.detach().clone()
    with pytest.raises(ValueError, match="bytes"):
        optimizer.step()
    assert torch.equal(w, before)


@pytest.mark.parametrize("size", [0, 1])
def test_a_decision_whose_storage_was_resized_is_made_anew(size):
    optimizer, w, own = stepped("adamp")
    twin_optimizer, twin, _ = stepped("adamp")
    own["projected"].untyped_storage().resize_(0)
    for o in (optimizer, twin_optimizer):
        o.step()
    torch.testing.assert_close(w, twin, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rule", "key"), KEYS)
@pytest.mark.parametrize("change", ["data", "entry", "reborn"])
def test_a_replaced_moment_is_the_one_that_is_stepped_with(rule, key, change):
    optimizer, w, own = stepped(rule)
    twin_optimizer, twin, twins = stepped(rule)
    twins[key].fill_(0.5)
    if change == "data":
        own[key].data = torch.full((4, 4), 0.5)
    elif change == "entry":
        own[key] = torch.full((4, 4), 0.5)
    else:  # which may get the address and the identity of the old one
        del own[key]
        own[key] = torch.full((4, 4), 0.5)
    optimizer.step()
    twin_optimizer.step()
    torch.testing.assert_close(w, twin, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(own[key], twins[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rule", "key"), KEYS)
def test_a_smaller_moment_in_the_place_of_one_that_died_is_refused(rule, key):
    for _ in range(20):
        optimizer, w, own = stepped(rule)
        before = w.detach().clone()
        del own[key]
        own[key] = torch.zeros(1)
        with pytest.raises(ValueError, match="shape"):
            optimizer.step()
        assert torch.equal(w, before)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("rule", RULES)
def test_a_lazily_negated_step_count_is_refused(rule, fused):
    optimizer, w, own = stepped(rule)
    optimizer.param_groups[0]["fused"] = fused
    before = w.detach().clone()
    own["step"] = torch._neg_view(-own["step"])
    with pytest.raises(ValueError, match="step count"):
        optimizer.step()
    assert torch.equal(w, before)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8, torch.float16, torch.complex64])
@pytest.mark.parametrize(("rule", "key"), KEYS)
def test_a_moment_of_a_dtype_that_cannot_hold_it_is_refused(rule, key, dtype, fused):
    optimizer, w, own = stepped(rule)
    optimizer.param_groups[0]["fused"] = fused
    before = w.detach().clone()
    own[key] = own[key].to(dtype)
    with pytest.raises(ValueError, match="moment of"):
        optimizer.step()
    assert torch.equal(w, before)


@pytest.mark.parametrize("rule", RULES)
def test_a_replaced_step_count_is_the_one_that_counts(rule):
    optimizer, _, own = stepped(rule)
    own["step"].data = torch.tensor(7.0)
    optimizer.step()
    assert own["step"] == 8


@pytest.mark.parametrize("rule", RULES)
def test_moments_and_gradients_that_were_taken_away_are_not_kept_alive(rule):
    optimizer, w, own = stepped(rule)
    key = dict(KEYS)[rule]
    taken = [ref(own[key]), ref(w.grad)]
    own[key] = own[key].clone()
    w.grad = None
    assert [known() for known in taken] == [None, None]
    w.grad = torch.ones(4, 4)
    optimizer.step()

"""`blocks="sticky"`: the paper's test over the first steps, and then their majority, whatever comes."""

from copy import deepcopy

import pytest
import torch

from support.weights import gap, give_gradients, run, tangent, weights
from tangential import SGDP, AdamP, Blocks
from tangential.backends import cpu_chunks as chunks
from tangential.backends.sticky import VOTES, VOTING_STEPS

MAKERS = {
    "adamp": lambda params, **kw: AdamP(params, lr=1e-3, weight_decay=0.1, **kw),
    "sgdp": lambda params, **kw: SGDP(params, lr=1e-3, weight_decay=0.1, momentum=0.9, **kw),
}
every = pytest.mark.parametrize("name", MAKERS)
backends = pytest.mark.parametrize("foreach", [False, True])
counted = pytest.mark.parametrize("capturable", [False, True])
SHAPES = [(6, 50), (8, 3, 3, 3), (5,), (40, 30), (1, 64)]


def steer(params, step, invariant):
    """Gradients that pass the paper's test for the parameters named, and are radial for the others."""
    give_gradients(params, step)
    for i, p in enumerate(params):
        if p.ndim > 1:
            p.grad = tangent(p, p.grad) if i in invariant else p.grad + 3 * p.detach()


@every
@backends
@counted
def test_sticky_is_the_paper_test_while_it_listens(name, foreach, capturable):
    sticky, cosine = weights(shapes=SHAPES), weights(shapes=SHAPES)
    settings = dict(foreach=foreach, capturable=capturable)
    a = run(MAKERS[name](sticky, blocks="sticky", **settings), sticky, VOTING_STEPS)
    b = run(MAKERS[name](cosine, blocks="cosine", **settings), cosine, VOTING_STEPS)
    assert gap(a, b) < 1e-14


@every
@backends
@counted
def test_majority_decides_for_good(name, foreach, capturable):
    sticky, known = weights(shapes=SHAPES), weights(shapes=SHAPES)
    a = MAKERS[name](sticky, blocks="sticky", foreach=foreach, capturable=capturable)
    kinds = [Blocks(), None, None, Blocks(), None]
    b = MAKERS[name]([dict(params=[p], blocks=k) for p, k in zip(known, kinds, strict=True)], foreach=foreach)
    for step in range(VOTING_STEPS + 15):
        turned = step >= VOTING_STEPS  # from now on the gradients say the contrary
        for params in (sticky, known):
            steer(params, step, {1, 4} if turned else {0, 3})
        a.step()
        b.step()
    assert gap([p.detach() for p in sticky], [p.detach() for p in known]) < 1e-13


@every
@backends
def test_a_chance_hit_is_forgotten(name, foreach):
    sticky, plain = weights(shapes=[(6, 50)]), weights(shapes=[(6, 50)])
    a = MAKERS[name](sticky, blocks="sticky", foreach=foreach)
    for step in range(VOTING_STEPS):
        steer(sticky, step, {0} if step % 4 == 0 else set())
        a.step()
    plain[0].data.copy_(sticky[0].data)
    b = MAKERS[name](plain, blocks=None, foreach=foreach)
    b.load_state_dict({**b.state_dict(), "state": deepcopy(a.state_dict()["state"])})
    for params, optimizer in ((sticky, a), (plain, b)):
        steer(params, VOTING_STEPS, {0})
        optimizer.step()
    torch.testing.assert_close(sticky[0], plain[0], rtol=1e-14, atol=0)


@every
def test_layer_view_is_settled_too(name):
    w = weights(shapes=[(6, 50)])
    optimizer = MAKERS[name](w, blocks="sticky")
    for step in range(VOTING_STEPS):
        give_gradients(w, step)
        rows, g = w[0].detach(), w[0].grad.roll(1, 0) + 0.1
        w[0].grad = g - rows * ((rows * g).sum() / (rows * rows).sum())  # orthogonal as a whole only
        optimizer.step()
    assert optimizer.state[w[0]][VOTES].tolist() == [0, VOTING_STEPS]


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_votes_survive_a_checkpoint(name, dtype):
    a = weights(dtype, SHAPES)
    first = MAKERS[name](a, blocks="sticky")
    run(first, a, 7)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = MAKERS[name](b, blocks="sticky")
    second.load_state_dict(deepcopy(first.state_dict()))
    assert second.state[b[0]][VOTES].dtype == torch.int32
    assert all(
        torch.equal(p, q) for p, q in zip(run(first, a, VOTING_STEPS), run(second, b, VOTING_STEPS), strict=True)
    )


@every
def test_pieces_vote_as_one_weight(name, monkeypatch):
    whole, cut = weights(shapes=SHAPES), weights(shapes=SHAPES)
    a = run(MAKERS[name](whole, blocks="sticky", foreach=True), whole, VOTING_STEPS + 3)
    monkeypatch.setattr(chunks, "PIECE", 16)
    b = run(MAKERS[name](cut, blocks="sticky", foreach=True), cut, VOTING_STEPS + 3)
    assert gap(a, b) < 1e-13

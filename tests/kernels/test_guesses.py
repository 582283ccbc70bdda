"""The kernel guesses what the paper's test will say; a wrong guess changes the time of a step and nothing else."""

import copy

import pytest
import torch

from support.step_matrix import RULES
from support.twins import SPACING, decided, exact_twin, made, worst_step
from support.weights import gap, give_gradients, run, tangent, weights
from tangential.backends import DECISION, VOTES
from tangential.backends.sticky import VOTING_STEPS
from tangential.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")


@pytest.mark.parametrize(
    ("dtype", "scale", "allowed"),
    # see the next test for the last scale, at which a step is many times the weight
    [(torch.float32, 1.0, 20), (torch.float32, 1e-2, 40), (torch.float32, 1e-4, 500), (torch.bfloat16, 1.0, 3)],
)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("rule", RULES)
def test_a_wrong_guess_is_repaired(rule, dtype, scale, allowed, layout, kernel_alone):
    optimizer, params = made(
        rule, "cosine", dtype, [(8, 3, 3, 3), (6, 7), (30, 140), (3, 2000), (2, 20_000), (4, 1, 3, 3)], layout
    )
    with torch.no_grad():
        for p in params:
            p.mul_(scale)

    def lie():
        for own in optimizer.state.values():
            own[DECISION] = torch.tensor(0 if own[DECISION] == 1 else 1, dtype=torch.uint8)

    assert worst_step(optimizer, params, 8, lie) < allowed


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("rule", RULES)
def test_a_repair_loses_what_its_factor_multiplies_and_no_more(rule, scale):
    """A step is moved by a factor a' in the place of a, then by k = a / a': so a rounding of a' w - step is k times as
    large. Where a step is many times the weight, k is too, and that is all there is to lose."""
    optimizer, params = made(rule, "cosine", torch.float32, [(8, 3, 3, 3), (30, 140), (3, 2000), (2, 20_000)])
    with torch.no_grad():
        for p in params:
            p.mul_(scale)
    for step in range(4):
        give_gradients(params, step)
        for own in optimizer.state.values():
            own[DECISION] = torch.zeros((), dtype=torch.uint8)
        before = [p.detach().double().flatten(1) for p in params]
        right, rights = exact_twin(optimizer, params)
        guessed, guesses = exact_twin(optimizer, params)
        guessed.param_groups[0]["blocks"] = None
        for each in (optimizer, right, guessed):
            each.step()
        plain = 1 - right.param_groups[0]["lr"] * right._decay(right.param_groups[0])
        for p, q, moved, w in zip(params, rights, guesses, before, strict=True):
            p, q, moved = (x.detach().double().flatten(1) for x in (p, q, moved))
            k = (plain + ((q - moved) * w).sum(1) / (w * w).sum(1)) / plain
            size = torch.stack([q.abs(), moved.abs(), w.abs()]).amax((0, 2))
            sums = w.shape[1] ** 0.5  # what adding up a row loses, whatever the order, grows so
            assert ((p - q).abs().amax(1) < (4 * (k.abs() + 1) + sums / 8) * size * SPACING[torch.float32]).all()


@pytest.mark.parametrize("rule", RULES)
def test_the_last_decision_is_kept_and_readable(rule):
    cls, hyper = RULES[rule]
    optimizer, params = decided(lambda params: cls(params, **hyper))
    assert [int(optimizer.state[p][DECISION]) for p in params[:3]] == [1, 0, 2]
    assert DECISION not in optimizer.state[params[3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_votes_are_counted_as_the_definition_does(rule, dtype, kernel_alone):
    cls, hyper = RULES[rule]
    params = weights(dtype, [(6, 7), (8, 3, 3, 3), (30, 140), (3, 2000), (2, 20_000), (7,)])
    optimizer = cls(params, blocks="sticky", fused=True, **hyper)
    heard = [0, 0, 0, 0, 0]
    for step in range(VOTING_STEPS + 4):
        give_gradients(params, step)
        for i, p in enumerate(params[:5]):
            invariant = (step % 3 > 0) == (i < 3)  # in most steps the first three, once they are settled the others
            p.grad = (tangent(p, p.grad.float()) if invariant else p.grad + 3 * p.detach()).to(dtype)
        twin, twins = exact_twin(optimizer, params)
        optimizer.step()
        twin.step()
        assert all(
            gap([p.detach().double()], [q.detach()]) < (20 if dtype == torch.float32 else 4) * SPACING[dtype]
            for p, q in zip(params, twins, strict=True)
        )
        if step < VOTING_STEPS:
            heard = [n + (int(optimizer.state[p][DECISION]) == 1) for n, p in zip(heard, params, strict=False)]
        assert [int(optimizer.state[p][VOTES][0]) for p in params[:5]] == heard
        assert all(
            torch.equal(optimizer.state[p][VOTES], twin.state[q][VOTES]) for p, q in zip(params, twins, strict=True)
        )
    assert [int(optimizer.state[p][DECISION]) for p in params[:5]] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_resuming_continues_bit_for_bit(rule):
    cls, hyper = RULES[rule]
    a = weights(torch.float32)
    first = cls(a, **hyper)
    run(first, a, 5)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = cls(b, **hyper)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(own[DECISION].dtype == torch.uint8 for own in second.state.values() if DECISION in own)
    for step in range(3):
        give_gradients(a, step)
        give_gradients(b, step)
        first.step()
        second.step()
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("before", "after"), [("fused", "foreach"), ("foreach", "fused")])
def test_state_moves_between_backends(rule, before, after):
    cls, hyper = RULES[rule]
    a, straight = weights(torch.float32), weights(torch.float32)
    first = cls(a, **{before: True}, **hyper)
    run(first, a, 3)
    saved = copy.deepcopy(first.state_dict())
    for group in saved["param_groups"]:
        group.update({"fused": None, "foreach": None, after: True})
    second = cls(a, **hyper)
    second.load_state_dict(saved)
    assert second.backend == after
    other = cls(straight, foreach=True, **hyper)
    run(other, straight, 3)
    assert gap(run(second, a, 3), run(other, straight, 3)) < 1e-5
    assert any(DECISION in own for own in second.state.values()) == (after == "fused")

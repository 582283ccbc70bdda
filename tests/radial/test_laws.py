"""The law of every policy, over every base: on weights that losses see the direction of, and on no others."""

import copy
import math

import pytest
import torch

from support.radial_bases import BASES, BLOCKS, DECAYS, LR, ROWS, block_norms, every_base, give_gradients, pair, spread
from tangential import Radial
from tangential.radial import (
    Brake,
    CautiousDecay,
    CorrectedDecay,
    Fix,
    OrthogonalGradient,
    Project,
    RecordBrake,
    Rotate,
    SphericalCaution,
)

POLICIES = {
    "project": Project(),
    "brake": Brake(),
    "record brake": RecordBrake(),
    "fix": Fix(),
    "fix, given": Fix(radius=2.0),
    "rotate": Rotate(eta=0.01),
    "orthogonal gradient": OrthogonalGradient(),
    "spherical caution": SphericalCaution(),
    "cautious decay": CautiousDecay(),
    "corrected decay": CorrectedDecay(max_lr=2 * LR),
}
OF_DECAY = ("cautious decay", "corrected decay")
every_policy = pytest.mark.parametrize("policy", POLICIES)
every_blocks = pytest.mark.parametrize(  # with every base a minute together
    "blocks", [name if name == "rows" else pytest.param(name, marks=pytest.mark.slow) for name in BLOCKS]
)


def makes_sense(policy, base):
    if policy in OF_DECAY and base not in DECAYS:
        pytest.skip("refused: there is no decoupled decay to change")


def trajectory(base, policy, blocks=ROWS, steps=8, **settings):
    """`(before, after)` of the treated weight at each step."""
    w, v = pair()
    optimizer = Radial(BASES[base]([w, v]), policy, {w: blocks}, eps=0.0, **settings)
    for step in range(steps):
        give_gradients(w, v, step, blocks)
        before = w.detach().clone()
        optimizer.step()
        yield before, w.detach().clone()


def sums(x, y, blocks):
    rows = (x * y).movedim(blocks.dim, 0).flatten(1).sum(1)
    return torch.stack([rows[a:b].sum() for a, b in blocks.spans(x.shape)])


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_base
@every_policy
def test_weights_that_are_not_treated_step_as_the_bases_do_bit_for_bit(policy, base):
    makes_sense(policy, base)
    (w, v), (w2, v2) = pair(), pair()
    wrapped, bare = Radial(BASES[base]([w, v]), POLICIES[policy], {w: ROWS}), BASES[base]([w2, v2])
    for step in range(8):
        give_gradients(w, v, step)
        give_gradients(w2, v2, step)
        wrapped.step()
        bare.step()
        assert torch.equal(v, v2)


@every_base
@every_blocks
def test_projected_weights_grow_as_under_gradient_descent(base, blocks):
    keep = 1 - LR * DECAYS.get(base, 0.0) * 0.1
    for before, after in trajectory(base, Project(), BLOCKS[blocks]):
        q = after - keep * before
        close(
            sums(after, after, BLOCKS[blocks]),
            keep**2 * sums(before, before, BLOCKS[blocks]) + sums(q, q, BLOCKS[blocks]),
        )
        close(sums(before, q, BLOCKS[blocks]), 0 * sums(before, q, BLOCKS[blocks]))


@every_base
@every_blocks
@pytest.mark.parametrize(("radius", "steps"), [(None, "raw"), (2.0, "relative")])
def test_fixed_norms_stay(base, blocks, radius, steps):
    blocks = BLOCKS[blocks]
    wanted = block_norms(pair()[0], blocks).detach() if radius is None else torch.tensor(radius, dtype=torch.float64)
    w, v = pair()
    optimizer = Radial(BASES[base]([w, v]), Fix(radius), {w: blocks}, steps=steps)
    for step in range(8):
        give_gradients(w, v, step, blocks)
        optimizer.step()
        close(block_norms(w.detach(), blocks), wanted.expand(len(blocks.spans(w.shape))))


@every_base
@every_blocks
def test_every_block_turns_by_the_angle_and_keeps_its_norm(base, blocks):
    blocks = BLOCKS[blocks]
    norms = block_norms(pair()[0].detach(), blocks)
    for before, after in trajectory(base, Rotate(eta=0.05, averaging=0.0, eps=0.0), blocks):
        cosines = sums(before, after, blocks) / norms**2
        close(cosines, torch.full_like(cosines, math.cos(math.atan(0.05))))
        close(block_norms(after, blocks), norms)


@every_base
def test_average_rotation_is_the_angle(base):
    turned = []
    for before, after in trajectory(base, Rotate(eta=0.02), steps=80):
        cosines = sums(before, after, ROWS) / (block_norms(before, ROWS) * block_norms(after, ROWS))
        turned.append(cosines.clamp(max=1).arccos())
    rms = torch.stack(turned[40:]).square().mean(0).sqrt()
    assert ((rms / 0.02 - 1).abs() < 0.25).all()  # an average over the last ten steps or so


@every_base
@every_blocks
def test_a_brake_keeps_a_part_of_the_change_of_the_norm(base, blocks):
    blocks = BLOCKS[blocks]
    w, v = pair()
    optimizer = BASES[base]([w, v])
    braked = Radial(optimizer, Brake(outward=0.25, inward=0.5), {w: blocks})
    for step in range(8):
        give_gradients(w, v, step, blocks)
        before = w.detach().clone()
        free, free_w, _ = copy.deepcopy((optimizer, w, v))
        free.step()
        braked.step()
        decay = LR * DECAYS.get(base, 0.0)
        moved = free_w.detach() + decay * before
        r, n = block_norms(before, blocks), block_norms(moved, blocks)
        wanted = torch.where(n > r, r + 0.25 * (n - r), r + 0.5 * (n - r))
        inside = spread(torch.ones(len(r), dtype=torch.float64) * 2, before, blocks) == 2
        expected = moved * spread(wanted / n, before, blocks) - decay * before
        close(w.detach(), torch.where(inside, expected, free_w.detach()))


@every_base
@every_blocks
def test_a_brake_of_one_is_the_base_bit_for_bit(base, blocks):
    blocks = BLOCKS[blocks]
    (w, v), (w2, v2) = pair(), pair()
    wrapped, bare = Radial(BASES[base]([w, v]), Brake(1.0, 1.0), {w: blocks}), BASES[base]([w2, v2])
    for step in range(8):
        give_gradients(w, v, step, blocks)
        give_gradients(w2, v2, step, blocks)
        wrapped.step()
        bare.step()
        assert torch.equal(w, w2)


@every_base
@pytest.mark.parametrize("rescale", [True, False])
def test_bases_see_orthogonal_gradients_and_users_their_own(base, rescale):
    w, v = pair()
    optimizer = BASES[base]([w, v])
    seen = []

    class Watching(type(optimizer)):
        def step(self, closure=None):
            seen.extend(p.grad.clone() for group in self.param_groups for p in group["params"] if p is w)
            return super().step(closure)

    optimizer.__class__ = Watching
    wrapped = Radial(optimizer, OrthogonalGradient(rescale), {w: ROWS}, decoupled=base in DECAYS)
    for step in range(3):
        give_gradients(w, v, step)
        w.grad += w.detach() * torch.randn(6, 1, dtype=torch.float64)
        given, before = w.grad.clone(), w.detach().clone()
        own = w.grad
        wrapped.step()
        assert w.grad is own and torch.equal(own, given)
        close(sums(seen[-1], before, ROWS), torch.zeros(6, dtype=torch.float64))
        tangential = given - before * (sums(given, before, ROWS) / sums(before, before, ROWS))[:, None]
        length = block_norms(given, ROWS) if rescale else block_norms(tangential, ROWS)
        close(block_norms(seen[-1], ROWS), length)


@every_base
@every_blocks
def test_relative_steps_are_as_long_as_the_rate_times_the_norm(base, blocks):
    """Under an orthogonal gradient, which leaves the step to the base."""
    blocks = BLOCKS[blocks]
    decay = LR * DECAYS.get(base, 0.0)
    w, v = pair()
    optimizer = Radial(BASES[base]([w, v]), OrthogonalGradient(), {w: blocks}, steps="relative")
    for step in range(5):
        give_gradients(w, v, step, blocks)
        before = w.detach().clone()
        optimizer.step()
        d = w.detach() - (1 - decay) * before
        close(block_norms(d, blocks), LR * block_norms(before, blocks))


@pytest.mark.parametrize("base", DECAYS)
def test_corrected_decay_is_the_bases_times_rate_over_highest_rate(base):
    for before, after in trajectory(base, CorrectedDecay(max_lr=4 * LR), steps=1):
        w, v = pair()
        give_gradients(w, v, 0)
        BASES[base]([w, v]).step()
        close(after, w.detach() + LR * 0.1 * (1 - 1 / 4) * before)


@pytest.mark.parametrize("base", DECAYS)
def test_cautious_decay_leaves_what_the_step_makes_larger(base):
    for before, after in trajectory(base, CautiousDecay(), steps=1):
        w, v = pair()
        give_gradients(w, v, 0)
        BASES[base]([w, v], weight_decay=0.0).step()
        u = before - w.detach()
        close(after, w.detach() - LR * 0.1 * torch.where(u * before >= 0, before, 0.0))
        assert ((u * before) < 0).any() and ((u * before) > 0).any()


@every_base
@every_policy
def test_state_round_trips(policy, base):
    makes_sense(policy, base)

    def run(optimizer, w, v, steps):
        for step in steps:
            give_gradients(w, v, step)
            optimizer.step()

    w, v = pair()
    whole = Radial(BASES[base]([w, v]), POLICIES[policy], {w: ROWS})
    run(whole, w, v, range(4))
    saved = copy.deepcopy(whole.state_dict())
    w2, v2 = w.detach().clone().requires_grad_(), v.detach().clone().requires_grad_()
    run(whole, w, v, range(4, 9))
    again = Radial(BASES[base]([w2, v2]), POLICIES[policy], {w2: ROWS})
    again.load_state_dict(saved)
    run(again, w2, v2, range(4, 9))
    if base == "NAdam":  # torch continues its float32 `mu_product` in the dtype of the weight
        close(w, w2, 1e-6)
    else:
        assert torch.equal(w, w2) and torch.equal(v, v2)

"""What makes no sense is refused with the reason, before anything moves."""

import pytest
import torch
from torch import nn

from support.radial_bases import ROWS, give_gradients, pair
from tangential import AdamP, Blocks, Radial
from tangential.radial import (
    AdamH,
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


def adamw(params, **settings):
    return torch.optim.AdamW(params, **{"lr": 0.01, "weight_decay": 0.1, **settings})


class Foreign(torch.optim.Optimizer):
    """An optimizer that nothing is known of; it decays by halves of the documented rate."""

    def __init__(self, params, **settings):
        super().__init__(params, {"lr": 0.1, "weight_decay": 0.0, **settings})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(p.grad, alpha=-group["lr"])


REFUSED = {
    "a class": (lambda w, v: Radial(torch.optim.AdamW), TypeError, "wrap an optimizer, such as"),
    "parameters": (lambda w, v: Radial([w, v]), TypeError, "list came"),
    "AdamP": (lambda w, v: Radial(AdamP([w, v])), ValueError, "projects already"),
    "a wrapper": (lambda w, v: Radial(Radial(adamw([w, v]))), ValueError, "wrapped already"),
    "LBFGS": (lambda w, v: Radial(torch.optim.LBFGS([w])), ValueError, "line search"),
    "SparseAdam": (lambda w, v: Radial(torch.optim.SparseAdam([w])), ValueError, "sparse"),
    "differentiable": (lambda w, v: Radial(adamw([w], differentiable=True)), ValueError, "differentiable"),
    "a policy's class": (lambda w, v: Radial(adamw([w]), Project), TypeError, "such as Project"),
    "steps": (lambda w, v: Radial(adamw([w]), steps="big"), ValueError, "'raw' or 'relative'"),
    "relative rotation": (
        lambda w, v: Radial(adamw([w]), Rotate(), ROWS, steps="relative"),
        ValueError,
        "sets the size of steps itself",
    ),
    "relative caution": (
        lambda w, v: Radial(adamw([w]), SphericalCaution(), ROWS, steps="relative"),
        ValueError,
        "base's own step",
    ),
    "decoupled": (lambda w, v: Radial(adamw([w]), decoupled=1), TypeError, "True, False or None"),
    "delta": (lambda w, v: Radial(adamw([w]), delta=-1.0), ValueError, "finite and at least 0"),
    "eps": (lambda w, v: Radial(adamw([w]), eps="small"), TypeError, "must be a number"),
    "fix by the test": (lambda w, v: Radial(adamw([w]), Fix()), ValueError, "decides anew at each"),
    "rotate by the test": (lambda w, v: Radial(adamw([w]), Rotate()), ValueError, "decides anew at each"),
    "no angle": (lambda w, v: Radial(adamw([w], weight_decay=0.0), Rotate(), ROWS), ValueError, "Pass eta"),
    "no angle for RMSprop": (
        lambda w, v: Radial(torch.optim.RMSprop([w], weight_decay=0.1), Rotate(), ROWS),
        ValueError,
        "has no angle for RMSprop",
    ),
    "no decay to be cautious with": (
        lambda w, v: Radial(torch.optim.SGD([w], weight_decay=0.1), CautiousDecay(), ROWS),
        ValueError,
        "decay is coupled",
    ),
    "no decay to correct": (
        lambda w, v: Radial(adamw([w], weight_decay=0.0), CorrectedDecay(1.0), ROWS),
        ValueError,
        "or 0",
    ),
    "unknown decay": (lambda w, v: Radial(Foreign([w], weight_decay=0.1)), ValueError, "Pass decoupled=True if"),
    "sticky": (lambda w, v: Radial(adamw([w]), invariances="sticky"), ValueError, "takes 'cosine'"),
    "invariances": (lambda w, v: Radial(adamw([w]), invariances=3), TypeError, "must be 'cosine', a Blocks"),
    "blocks that do not fit": (
        lambda w, v: Radial(adamw([w]), invariances={w: Blocks(size=4)}),
        ValueError,
        "does not divide",
    ),
    "blocks of one element": (
        lambda w, v: (
            Radial(adamw([nn.Parameter(torch.ones(3))]), Fix(), Blocks()).param_groups.clear()
            or Radial(adamw([b := nn.Parameter(torch.ones(3))]), Fix(), {b: Blocks()})
        ),
        ValueError,
        "blocks of one element",
    ),
    "a stranger's weight": (lambda w, v: Radial(adamw([w]), invariances={v: ROWS}), ValueError, "no parameter"),
    "an entry that is no Blocks": (
        lambda w, v: Radial(adamw([w]), invariances={w: 3}),
        TypeError,
        "with Blocks or None",
    ),
    "wd_ratio": (lambda w, v: Project(wd_ratio=2.0), ValueError, "must be in \\[0, 1\\]"),
    "outward": (lambda w, v: Brake(outward=-0.1), ValueError, "must be in \\[0, 1\\]"),
    "floor": (lambda w, v: RecordBrake(floor=True), TypeError, "must be a number"),
    "radius": (lambda w, v: Fix(radius=0.0), ValueError, "positive and finite"),
    "averaging": (lambda w, v: Rotate(averaging=1.0), ValueError, "must be in \\[0, 1\\)"),
    "eta": (lambda w, v: Rotate(eta=float("nan")), ValueError, "positive and finite"),
    "max_lr": (lambda w, v: CorrectedDecay(max_lr="1"), TypeError, "must be a number"),
    "an unknown argument": (lambda w, v: AdamH([w], beta=0.9), TypeError, "beta"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    make, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        make(*pair())


def step_refused(optimizer, w, message, error=ValueError):
    before = w.detach().clone()
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(w, before)


def test_a_rate_above_the_highest_is_refused():
    w, v = pair()
    optimizer = Radial(adamw([w, v]), CorrectedDecay(max_lr=1e-3), {w: ROWS})
    give_gradients(w, v, 0)
    step_refused(optimizer, w, "above max_lr")


def test_corrected_decay_needs_a_highest_rate():
    w, v = pair()
    optimizer = Radial(adamw([w, v]), CorrectedDecay(), {w: ROWS})
    give_gradients(w, v, 0)
    step_refused(optimizer, w, "no max_lr is known")


def test_a_sparse_gradient_of_a_treated_weight_is_refused():
    embedding = nn.Embedding(4, 3, sparse=True)
    optimizer = Radial(torch.optim.SGD(embedding.parameters(), lr=0.1), Project())
    embedding(torch.tensor([1])).sum().backward()
    step_refused(optimizer, embedding.weight, "only dense gradients")


def test_an_exchanged_parameter_is_refused():
    """As DeepSpeed and FSDP1 exchange them, for vectors that have no blocks."""
    w, v = pair()
    optimizer = Radial(adamw([w, v]), Fix(), {w: ROWS})
    flat = nn.Parameter(w.detach().flatten())
    flat.grad = torch.ones_like(flat)
    optimizer.param_groups[0]["params"][0] = flat
    step_refused(optimizer, flat, "no parameter of the optimizer is")


@pytest.mark.parametrize("word", [True, False])
def test_the_users_word_on_decay_counts(word):
    w, v = pair()
    optimizer = Radial(Foreign([w, v], weight_decay=0.1), Project(wd_ratio=0.0), {w: ROWS}, decoupled=word, eps=0.0)
    give_gradients(w, v, 0)
    before, g = w.detach().clone(), w.grad.clone()
    optimizer.step()
    keep = 1.0
    if not word:  # all of a decay that is not told of is radial, and taken out; nothing is decoupled to be left out
        assert (w.detach() - (before - 0.1 * g)).abs().max() < 1e-12
    assert (w.detach() - (keep * before - 0.1 * g)).abs().max() < 1e-12


def test_the_orthogonal_gradient_leaves_decay_to_an_unknown_base():
    w, v = pair()
    Radial(Foreign([w, v], weight_decay=0.1), OrthogonalGradient(), {w: ROWS}, decoupled=True).step()

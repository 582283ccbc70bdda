"""Every law of the theory holds, and every law is seen to fail when the optimizer, the loss or the formula is wrong."""

import dataclasses
import math
import re
from functools import partial

import pytest
import torch
from torch.optim import SGD, Optimizer

from support.paths import ROOT
from tangential import SGDP, AdamP, Blocks
from tangential.paper.theory import (
    LAWS,
    Check,
    adam,
    checks,
    comparison,
    equilibrium,
    geometry,
    laws,
    losses,
    norms,
    table,
)
from tangential.paper.theory import settings as at
from tangential.paper.theory.check import largest_error
from tangential.paper.theory.trajectories import dots, follow, gradient

pytestmark = pytest.mark.slow

LOSSES = [losses.linear_model, losses.conv_net]


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    return list(checks())


def test_every_check_holds(found):
    assert [check for check in found if not check.holds] == []


def test_identities_agree_to_1e_9_and_only_averages_may_be_less_exact(found):
    exact = [check for check in found if not (check.statistical or check.apart)]
    assert all(check.tolerance == 1e-9 and check.error < 1e-9 for check in exact)
    assert len(exact) == 29
    assert [check.law.split(" ")[0] for check in found if check.statistical] == ["Equilibrium"] * 4
    assert all(check.tolerance <= 0.01 for check in found)


def test_every_statement_is_checked_on_a_linear_model_and_on_a_conv_net(found):
    names = [check.subject.split(",")[0] for check in found[: 2 * len(LAWS)]]
    assert names == ["normalised linear model", "BatchNorm conv net"] * len(LAWS)


def test_growth_ratios_are_those_of_the_paper(found):
    ratios = [check.measured for check in found if check.law.startswith("Corollary")]
    assert ratios == pytest.approx([3, 19, 199], rel=1e-9)


def test_checks_leave_no_global_setting_behind(found):
    assert torch.get_default_dtype() == torch.float32


# --- each law broken on purpose ---------------------------------------------------------------------------------------


class Odd(Optimizer):
    """SGDP with momentum and decay, and one thing wrong with it."""

    def __init__(self, params, wrong="", lr=at.LR, momentum=at.BETA, decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay, blocks=Blocks(), wrong=wrong))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                self.step_one(w, self.state[w].setdefault("m", torch.zeros_like(w)), **group)

    def step_one(self, w, m, *, lr, momentum, decay, blocks, wrong, params):
        sign = -1 if wrong == "sign of the momentum" else 1
        m.mul_(sign * momentum).add_(w.grad)
        rows, over = w.flatten(1), m.flatten(1)
        radial = (rows * ((rows * over).sum(1) / (rows * rows).sum(1))[:, None]).view_as(w)
        radial *= {"sign of the projection": -1, "half a projection": 0.5}.get(wrong, 1)
        u = m - (blocks is not None) * radial
        if wrong == "projected buffer":
            m.copy_(u)
        w.mul_(1 - lr * decay).sub_(u, alpha=lr)


KEEP = at.DECAY * at.WD_RATIO / (1 - at.BETA)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_odd_optimizer_is_right_when_nothing_is_wrong_with_it(loss):
    assert norms.projected_sgdp(loss(), partial(Odd, decay=KEEP)).holds
    assert geometry.proposition_3_1(loss(), Odd).holds


WRONG = {
    "Lemma 2.1, decay on": (norms.lemma_2_1, partial(SGD, lr=at.LR, weight_decay=0.01)),
    "Lemma 2.1, momentum on": (norms.lemma_2_1, at.HEAVY_BALL),
    "Lemma 2.1, another lr": (norms.lemma_2_1, partial(SGD, lr=1.01 * at.LR)),
    "Lemma 2.2, wrong sign": (norms.lemma_2_2, partial(SGD, lr=at.LR, momentum=at.BETA, dampening=2.0)),
    "Lemma 2.2, no momentum": (norms.lemma_2_2, at.GRADIENT_DESCENT),
    "Lemma 2.2, Nesterov": (norms.lemma_2_2, at.NESTEROV),
    "Lemma 2.2, projected": (norms.lemma_2_2, partial(SGDP, lr=at.LR, momentum=at.BETA, blocks=Blocks())),
    "Lemma 2.2, projected buffer": (norms.lemma_2_2, partial(Odd, wrong="projected buffer")),
    "Nesterov, heavy ball": (norms.nesterov, at.HEAVY_BALL),
    "Decoupled, missing": (norms.decoupled_decay, at.HEAVY_BALL),
    "Decoupled, coupled": (norms.decoupled_decay, at.COUPLED),
    "Decoupled, not over 1 - momentum": (
        norms.decoupled_decay,
        partial(SGDP, lr=at.LR, momentum=at.BETA, weight_decay=at.DECAY * (1 - at.BETA), blocks=None),
    ),
    "Coupled, missing": (norms.coupled_decay, at.HEAVY_BALL),
    "Coupled, decoupled": (norms.coupled_decay, at.DECOUPLED),
    "SGDP, no projection": (norms.projected_sgdp, at.DECOUPLED),
    "SGDP, missing decay": (norms.projected_sgdp, Odd),
    "SGDP, whole decay": (norms.projected_sgdp, partial(at.PROJECTED_SGDP, wd_ratio=1.0)),
    "SGDP, projected buffer": (norms.projected_sgdp, partial(Odd, wrong="projected buffer", decay=KEEP)),
    "SGDP, wrong sign of the projection": (
        norms.projected_sgdp,
        partial(Odd, wrong="sign of the projection", decay=KEEP),
    ),
    "SGDP, half a projection": (norms.projected_sgdp, partial(Odd, wrong="half a projection", decay=KEEP)),
    "SGDP, wrong sign of the momentum": (norms.projected_sgdp, partial(Odd, wrong="sign of the momentum", decay=KEEP)),
    "AdamP, no projection": (adam.projected, partial(at.PROJECTED_ADAMP, blocks=None)),
    "AdamP, missing decay": (adam.projected, partial(at.PROJECTED_ADAMP, weight_decay=0.0)),
    "AdamP, layers for channels": (adam.projected, partial(at.PROJECTED_ADAMP, blocks=Blocks(size=None))),
    "AdamP, Nesterov": (adam.projected, partial(at.PROJECTED_ADAMP, nesterov=True)),
    "Adam, no radial term": (adam.identity, partial(AdamP, lr=at.ADAM_LR, eps=at.TINY, blocks=Blocks())),
    "Adam, another beta": (adam.identity, partial(at.ADAM, betas=(0.8, 0.999))),
    "Proposition 3.1, sign": (geometry.proposition_3_1, partial(Odd, wrong="sign of the projection")),
    "Proposition 3.1, half": (geometry.proposition_3_1, partial(Odd, wrong="half a projection")),
    "Proposition 3.1, none": (geometry.proposition_3_1, partial(SGDP, lr=at.LR, momentum=at.BETA, blocks=None)),
    "Proposition 3.1, off the circle": (
        geometry.proposition_3_1,
        partial(SGDP, lr=at.LR, momentum=0.9, blocks=Blocks(size=None)),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_optimizer_is_seen(name, loss):
    check, make = WRONG[name]
    assert check(loss(), make).verdict == "FAILS"


@pytest.mark.parametrize("loss", LOSSES)
def test_an_adam_that_obeyed_the_lemma_would_be_seen(loss, monkeypatch):
    """Without its preconditioner, Adam is gradient descent: then the two agree, and the check says so."""
    monkeypatch.setattr(at, "adam_without_momentum", at.plain)
    assert adam.lemma_2_2_differs(loss()).verdict == "differs, as stated"
    assert adam.lemma_2_2_differs(loss(), partial(SGD, lr=at.ADAM_LR)).verdict == "FAILS"


@pytest.mark.parametrize(
    "check", [geometry.orthogonality, geometry.scaling, geometry.step_length, norms.lemma_2_1, norms.lemma_2_2]
)
def test_a_loss_that_feels_the_length_is_seen(check, monkeypatch):
    monkeypatch.setattr(losses, "BATCH_NORM_EPS", 1e-3)
    assert not check(losses.conv_net()).holds


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("law", "check"),
    [
        ("gradient_descent", norms.lemma_2_1),
        ("momentum", norms.lemma_2_2),
        ("nesterov", norms.nesterov),
        ("decoupled_decay", norms.decoupled_decay),
        ("coupled_decay", norms.coupled_decay),
        ("projected", norms.projected_sgdp),
        ("any_update", adam.identity),
    ],
)
def test_a_wrong_formula_is_seen(law, check, loss, monkeypatch):
    right = getattr(laws, law)
    monkeypatch.setattr(laws, law, lambda start, *sums, lr, **rest: right(start, *sums, lr=lr * (1 + 1e-8), **rest))
    assert not check(loss()).holds


@pytest.mark.parametrize(
    "wrong", [dict(heavy=partial(SGD, lr=comparison.LR, momentum=0.8)), dict(plain=partial(SGD, lr=0.04))]
)
def test_the_corollary_fails_where_updates_are_not_equally_long(wrong):
    assert not comparison.corollary_2_3(0.9, **wrong).holds


def test_the_corollary_fails_for_a_projected_step():
    heavy = partial(SGDP, lr=comparison.LR, momentum=0.5, blocks=Blocks(size=None))
    assert not comparison.corollary_2_3(0.5, heavy=heavy).holds


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (equilibrium.sgd, partial(equilibrium.SGD, weight_decay=0.011)),
        (equilibrium.adamw, partial(equilibrium.ADAMW, weight_decay=0.11)),
        (equilibrium.sgdp, partial(equilibrium.WHOLE_DECAY_SGDP, blocks=None)),
    ],
)
def test_a_wrong_equilibrium_is_seen(check, wrong, monkeypatch):
    monkeypatch.setattr(equilibrium, "SETTLE", 600)
    monkeypatch.setattr(equilibrium, "MEASURE", 200)
    assert not check(wrong).holds


# --- what the checks are made of --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_scale_invariant_and_the_same_every_time(loss):
    first, second = loss(), loss()
    assert first(3).item() == second(3).item() != first(4).item()
    before = first(3).item()
    with torch.no_grad():
        for w in first.weights:
            w.mul_(torch.linspace(0.1, 30, w.shape[0]).view(-1, *[1] * (w.ndim - 1)))  # each row by itself
    assert first(3).item() == pytest.approx(before, rel=1e-13)


def test_noise_is_independent_and_tangential():
    loss = losses.noise()
    (w,) = loss.weights
    gradient(loss, 0)
    first = w.grad
    gradient(loss, 1)
    assert float((first * w.grad).sum() / first.norm() / w.grad.norm()) == pytest.approx(0, abs=0.1)
    assert dots([w.detach()], [first]).abs().max() < 1e-14


def test_a_trajectory_computes_the_updates_that_torch_takes():
    run = follow(losses.conv_net(), at.ADAM, at.adam, steps=5)
    for before, u, after in zip(run.w[:-1], run.u, run.w[1:], strict=True):
        for w, x, new in zip(before, u, after, strict=True):
            torch.testing.assert_close(w - at.ADAM_LR * x, new, rtol=1e-13, atol=1e-15)


def test_small_angles_are_exact():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[math.cos(1e-9), math.sin(1e-9)]], dtype=torch.float64)
    assert geometry.angles([a], [b]).item() == pytest.approx(1e-9, rel=1e-12)


def test_largest_error_is_that_of_the_worst_block():
    measured = torch.tensor([[1.0, 100.0], [2.0, 100.0]])
    assert largest_error(measured + torch.tensor([[0.0, 0.0], [1.0, 1.0]]), measured) == 0.5
    assert largest_error(torch.ones(1, 1), torch.zeros(1, 1)) == math.inf
    assert largest_error(torch.zeros(1, 1), torch.zeros(1, 1)) == 0


def test_a_number_that_is_none_never_holds():
    nan = Check(law="", formula="", subject="", predicted=0, measured=0, error=math.nan)
    assert not nan.holds and not dataclasses.replace(nan, apart=True).holds
    assert largest_error(torch.tensor([[math.nan]]), torch.ones(1, 1)) != 0


def test_growth_ratio_refuses_a_momentum_without_limit():
    with pytest.raises(ValueError, match=r"beta=1.*\[0, 1\)"):
        laws.growth_ratio(1)


def test_table_names_each_statement_once_and_every_failure(found):
    lines = [line for i, check in enumerate(found) for line in table.lines(check, after=found[i - 1] if i else None)]
    assert max(map(len, lines)) <= 110
    assert sum(line.startswith("Lemma 2.1") for line in lines) == 1
    assert sum("1.0e-09" in line for line in lines) == 0
    bad = dataclasses.replace(found[0], error=1.0)
    assert "FAILS" in list(table.lines(bad))[-1]
    assert table.summary([*found, bad]) == f"35 of 36 checks hold; failed: {bad.law} ({bad.subject})"


def test_the_page_shows_every_statement_and_how_it_came_out(found):
    page = (ROOT / "docs" / "theory.md").read_text()
    for check in found:
        assert f"{check.law}   {check.formula}\n" in page
        assert re.search(rf"^  {re.escape(check.subject)} .*  {check.verdict}$", page, re.MULTILINE)
    assert table.summary(found) in page

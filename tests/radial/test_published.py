"""Ready compositions and policies against oracles in float64, written here from the published formulas.

An oracle is loops over rows in plain torch; it shares no code with the package.
"""

import math

import pytest
import torch

from tangential import SGDP, AdamP, Blocks, Radial
from tangential.radial import (
    AdamH,
    Brake,
    CorrectedDecay,
    LionP,
    MuonH,
    MuonP,
    NAdamP,
    OrthoAdamW,
    Project,
    RAdamP,
    RecordBrake,
    RVAdamW,
    SphericalCaution,
)

STEPS = 50
WEIGHTS = [(6, 8), (4, 10), (3, 5)]


def start(shapes=WEIGHTS):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def gradient(w, i, t):
    """Of weight `i` at step `t`: orthogonal to its rows for the first, as it comes for the others."""
    x = torch.randn(w.shape, generator=torch.Generator().manual_seed(1 + 1000 * i + t), dtype=torch.float64)
    return x - w * ((x * w).sum(1) / (w * w).sum(1))[:, None] if i == 0 else x


def gap_after(optimizer_of, oracle, shapes=WEIGHTS, steps=STEPS):
    """Largest difference after the steps; both sides see gradients at their own weights."""
    ours = [w.clone().requires_grad_() for w in start(shapes)]
    optimizer = optimizer_of(ours)
    for t in range(steps):
        for i, p in enumerate(ours):
            p.grad = gradient(p.detach(), i, t) if p.ndim > 1 else torch.sin(p.detach() * (t + 1))
        optimizer.step()
    gaps = []
    for i, (w, p) in enumerate(zip(start(shapes), ours, strict=True)):
        move = oracle(w)
        for t in range(steps):
            g = gradient(w, i, t) if w.ndim > 1 else torch.sin(w * (t + 1))
            w = move(w, g, t + 1)
        gaps.append((w - p.detach()).abs().max().item())
        assert (w - start(shapes)[i]).abs().max() > 1e-3
    return max(gaps)


class Adam:
    """Kingma and Ba's update, without the learning rate."""

    def __init__(self, b1=0.9, b2=0.999, eps=1e-8):
        self.b1, self.b2, self.eps, self.m, self.v = b1, b2, eps, 0.0, 0.0

    def __call__(self, g, t):
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        return self.m / (1 - self.b1**t) / ((self.v / (1 - self.b2**t)).sqrt() + self.eps)


class NAdam(Adam):
    """Dozat's, with torch's schedule of momentum; torch keeps the product of the schedule in float32."""

    def __init__(self):
        super().__init__()
        self.product = torch.tensor(1.0)

    def __call__(self, g, t):
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        mu, after = (self.b1 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
        self.product = self.product * mu
        now = self.product.item()
        step = (1 - mu) / (1 - now) * g + after / (1 - now * after) * self.m
        return step / ((self.v / (1 - self.b2**t)).sqrt() + self.eps)


class RAdam(Adam):
    """Liu et al.'s rectified Adam."""

    def __call__(self, g, t):
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        longest = 2 / (1 - self.b2) - 1
        length = longest - 2 * t * self.b2**t / (1 - self.b2**t)
        m = self.m / (1 - self.b1**t)
        if length <= 5:
            return m
        r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        return m * math.sqrt(r) * math.sqrt(1 - self.b2**t) / (self.v.sqrt() + self.eps)


class Lion:
    """Chen et al.'s sign of the momentum."""

    def __init__(self):
        self.m = 0.0

    def __call__(self, g, t):
        u = torch.sign(0.9 * self.m + 0.1 * g)
        self.m = 0.99 * self.m + 0.01 * g
        return u


class Muon:
    """Jordan's, with Nesterov momentum, five Newton-Schulz steps in bfloat16, and the factor for tall matrices."""

    def __init__(self):
        self.m = 0.0

    def __call__(self, g, t):
        self.m = 0.95 * self.m + 0.05 * g
        x = (0.05 * g + 0.95 * self.m).bfloat16()
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(5):
            square = x @ x.T
            x = torch.addmm(x, torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        x = (x.T if tall else x).double()
        return x * math.sqrt(max(1.0, x.shape[0] / x.shape[1]))


def projected(update, lr, decay, ratio=0.1, delta=0.1, eps=1e-8):
    """The paper's step: the cosine test by rows, then as a whole, and decay with its ratio."""

    def move(w, g, t):
        u = update(g, t)
        for views in ([*zip(w, g, u, strict=True)], [(w, g, u)]):
            widest = max(abs((a * b).sum()) / max(a.norm(), eps) / max(b.norm(), eps) for a, b, _ in views)
            if widest < delta / math.sqrt(views[0][0].numel()):
                q = [c - a / (a.norm() + eps) * ((a / (a.norm() + eps)) * c).sum() for a, _, c in views]
                q = torch.stack(q).reshape(w.shape)
                return w * (1 - lr * decay * ratio) - lr * q
        return w * (1 - lr * decay) - lr * u

    return move


def hyperball(update, w0, lr):
    """W' = R N(W - lr R N(u))."""
    r = w0.norm()

    def move(w, g, t):
        u = update(g, t)
        new = w - lr * r * u / u.norm()
        return r * new / new.norm()

    return move


def rotational(update, w0, lr, decay, b1=0.9, center=True):
    """Algorithm of arXiv 2305.17212 per row, with the average of squared lengths and its debiasing."""
    n = w0.norm(dim=1, keepdim=True)
    angle = math.sqrt(2 * lr * decay * (1 - b1) / (1 + b1))
    state = {"v": 0.0}

    def move(w, g, t):
        d = update(g, t)
        d = d - d.mean(1, keepdim=True) if center else d
        d = d - w * ((d * w).sum(1, keepdim=True) / n**2)
        state["v"] = 0.1 * d.square().sum(1, keepdim=True) + 0.9 * state["v"]
        new = w - angle * n * d / ((state["v"] / (1 - 0.9**t)).sqrt() + 1e-8)
        return n * new / new.norm(dim=1, keepdim=True)

    return move


def orthogonal(update, lr, decay):
    """The gradient of arXiv 2501.04697, and AdamW."""

    def move(w, g, t):
        rest = g - (w * g).sum() / ((w * w).sum() + 1e-30) * w
        return w * (1 - lr * decay) - lr * update(rest * (g.norm() / (rest.norm() + 1e-30)), t)

    return move


def record(update, lr, outward=0.5, floor=0.35):
    """The brake of the record of 2026-05-11, of every row."""

    def move(w, g, t):
        rows = []
        for a, u in zip(w, update(g, t), strict=True):
            r, c = a.norm(), (u * a).sum() / max((a * a).sum(), 1e-12)
            u = u - c * a + (outward if c < 0 else 1.0) * c * a
            u = u * max(1.0, floor * r / u.norm())
            target = max(r - lr * (u * a).sum() / r, 1e-8)
            new = a - lr * u
            rows.append(new * target / new.norm())
        return torch.stack(rows)

    return move


def brake(update, lr, decay, outward=0.5):
    def move(w, g, t):
        rows = []
        for a, u in zip(w, update(g, t), strict=True):
            new, r = a - lr * u, a.norm()
            n = new.norm()
            kept = r + (outward if n > r else 1.0) * (n - r)
            rows.append(new * kept / n - lr * decay * a)
        return torch.stack(rows)

    return move


def caution(update, lr, decay, ratio=0.1):
    """timm's spherical caution, of rows that are known to be invariant."""

    def move(w, g, t):
        def tangential(x):
            return x - w * ((x * w).sum(1) / (w * w).sum(1))[:, None]

        q = tangential(update(g, t))
        mask = (q * tangential(g) > 0).double()
        q = tangential(q * mask / mask.mean().clamp(min=1e-3))
        return w * (1 - lr * decay * ratio) - lr * q

    return move


LR, DECAY = 0.01, 0.1


@pytest.mark.parametrize(
    ("ours", "update"),
    [(NAdamP, NAdam), (RAdamP, RAdam), (LionP, Lion), (MuonP, Muon)],
    ids=["NAdamP", "RAdamP", "LionP", "MuonP"],
)
@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_projected_compositions_equal_the_formulas(ours, update, ratio):
    if ours is LionP:
        pytest.importorskip("timm.optim")
    found = gap_after(
        lambda p: ours(p, lr=LR, weight_decay=DECAY, wd_ratio=ratio),
        lambda w: projected(update(), LR, DECAY, ratio),
    )
    assert found < 1e-10


def test_adamh_equals_hyperball_over_adam():
    assert gap_after(lambda p: AdamH(p, lr=LR), lambda w: hyperball(Adam(), w, LR)) < 1e-10


def test_muonh_equals_hyperball_over_muon():
    assert gap_after(lambda p: MuonH(p, lr=LR), lambda w: hyperball(Muon(), w, LR)) < 1e-10


def test_rvadamw_equals_the_rotational_variant():
    def of(p):
        return RVAdamW(p, lr=LR, weight_decay=DECAY, center=False)

    assert gap_after(of, lambda w: rotational(Adam(), w, LR, DECAY, center=False)) < 1e-10


def test_rvadamw_centers_weights_and_updates():
    ours = [w.clone().requires_grad_() for w in start()]
    optimizer = RVAdamW(ours, lr=LR, weight_decay=DECAY)
    theirs = [w - w.mean(1, keepdim=True) for w in start()]
    theirs = [
        c * w.norm(dim=1, keepdim=True) / c.norm(dim=1, keepdim=True) for c, w in zip(theirs, start(), strict=True)
    ]
    moves = [rotational(Adam(), w, LR, DECAY) for w in theirs]
    for t in range(STEPS):
        for i, p in enumerate(ours):
            p.grad = gradient(p.detach(), i, t)
            theirs[i] = moves[i](theirs[i], gradient(theirs[i], i, t), t + 1)
        optimizer.step()
        for p, w in zip(ours, theirs, strict=True):
            assert (p.detach() - w).abs().max() < 1e-10
            assert p.detach().mean(1).abs().max() < 1e-12


def test_orthoadamw_equals_adamw_of_orthogonal_gradients():
    found = gap_after(
        lambda p: OrthoAdamW(p, lr=LR, weight_decay=DECAY),
        lambda w: orthogonal(Adam(), LR, DECAY),
        shapes=[*WEIGHTS, (7,)],
    )
    assert found < 1e-10


@pytest.mark.parametrize("floor", [0.0, 0.35])
def test_record_brake_equals_the_record(floor):
    found = gap_after(
        lambda p: Radial(torch.optim.Adam(p, lr=LR), RecordBrake(floor=floor), Blocks()),
        lambda w: record(Adam(), LR, floor=floor),
    )
    assert found < 1e-10


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_brake_equals_its_formula(decay):
    found = gap_after(
        lambda p: Radial(torch.optim.AdamW(p, lr=LR, weight_decay=decay), Brake(), Blocks()),
        lambda w: brake(Adam(), LR, decay),
    )
    assert found < 1e-10


def test_spherical_caution_equals_its_formula():
    found = gap_after(
        lambda p: Radial(torch.optim.AdamW(p, lr=LR, weight_decay=DECAY), SphericalCaution(), Blocks()),
        lambda w: caution(Adam(), LR, DECAY),
    )
    assert found < 1e-10


def test_spherical_caution_under_the_test_equals_timm():
    """timm's AdamP cuts the steps of all weights; compared where it projects, by rows and as a whole."""
    timm = pytest.importorskip("timm.optim")
    ours, theirs = ([w.clone().requires_grad_() for w in start([(6, 8), (5, 4)])] for _ in range(2))
    a = Radial(torch.optim.AdamW(ours, lr=LR, weight_decay=DECAY), SphericalCaution())
    b = timm.AdamP(theirs, lr=LR, weight_decay=DECAY, caution=True)
    for t in range(STEPS):
        for each in (ours, theirs):
            for i, p in enumerate(each):
                w = p.detach()
                x = gradient(w, i + 1, t)
                p.grad = gradient(w, 0, t) if i == 0 else x - w * (x * w).sum() / (w * w).sum()
        a.step()
        b.step()
    assert max((p - q).abs().max().item() for p, q in zip(ours, theirs, strict=True)) < 1e-7  # timm's eps in norms


def test_corrected_decay_follows_a_schedule():
    (w,) = start([(6, 8)])
    p = w.clone().requires_grad_()
    optimizer = Radial(torch.optim.AdamW([p], lr=LR, weight_decay=DECAY), CorrectedDecay(), {p: Blocks()})
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=STEPS)
    update = Adam()
    for t in range(STEPS):
        lr = optimizer.param_groups[0]["lr"]
        p.grad = gradient(p.detach(), 1, t)
        w = w * (1 - lr * lr / LR * DECAY) - lr * update(gradient(w, 1, t), t + 1)
        optimizer.step()
        schedule.step()
    assert (p.detach() - w).abs().max() < 1e-10


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None)], ids=str)
def test_projected_sgd_is_sgdp(blocks, nesterov):
    ours, theirs = ([w.clone().requires_grad_() for w in start()] for _ in range(2))
    sgd = torch.optim.SGD(ours, lr=0.05, momentum=0.9, nesterov=nesterov)
    a = Radial(sgd, Project(), blocks)
    b = SGDP(theirs, lr=0.05, momentum=0.9, nesterov=nesterov, blocks=blocks)
    agree(a, b, ours, theirs)


@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None)], ids=str)
@pytest.mark.parametrize("base", ["AdamW", "fused AdamW", "decoupled Adam"])
def test_projected_adamw_is_adamp(blocks, base):
    ours, theirs = ([w.clone().requires_grad_() for w in start()] for _ in range(2))
    made = {
        "AdamW": lambda: torch.optim.AdamW(ours, lr=LR, weight_decay=DECAY),
        "fused AdamW": lambda: torch.optim.AdamW(ours, lr=LR, weight_decay=DECAY, fused=True),
        "decoupled Adam": lambda: torch.optim.Adam(ours, lr=LR, weight_decay=DECAY, decoupled_weight_decay=True),
    }[base]()
    a = Radial(made, Project(), blocks)
    agree(a, AdamP(theirs, lr=LR, weight_decay=DECAY, blocks=blocks), ours, theirs)


def agree(a, b, ours, theirs):
    for t in range(STEPS):
        for each in (ours, theirs):
            for i, p in enumerate(each):
                p.grad = gradient(p.detach(), i, t)
        a.step()
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            assert (p - q).abs().max() < 1e-12 * q.abs().max()

"""The launches are the same step as the definition to rounding: under Triton's interpreter, on a CPU.

`test_launches.py` runs this file in a process of its own: Triton decides when it is imported whether it interprets.
"""

import copy
from functools import partial

import pytest
import torch

from support.step_matrix import BLOCKS, RULES, fits
from support.twins import DENSE, check_odd_row, decided, exact_twin, worst_step
from support.weights import float32_copies, gap, give_gradients, gradient_passing, row_error, run, step_both, weights
from tangential import SGDP, AdamP, Blocks
from tangential.backends import DECISION, fused, fused_cuda
from tangential.backends.remainders import master
from tangential.kernels.cuda import launch
from tangential.kernels.cuda.plan import Cut
from tangential.kernels.plan import Run, form, runs

SHAPES = [(6, 3, 3, 3), (5,), (6, 7), (6, 1, 2, 2), (9, 20), (), (6, 1), (0, 3), (1, 130)]
FITS = {"heads": [(6, 3, 3, 3), (6, 7), (4, 1)], "fused": [(6, 3, 3, 3), (6, 7), (9, 130)]}


@pytest.fixture(autouse=True)
def launches_take_the_cpu(monkeypatch):
    monkeypatch.setattr(fused, "CUDA", "cpu")


def shapes_for(kind):
    return FITS.get(kind) or [s for s in SHAPES if fits(kind, s)]


def made(rule, kind, dtype=torch.float32, shapes=None, layout="contiguous", **settings):
    cls, hyper = RULES[rule]
    params = [DENSE[layout](p.detach()).requires_grad_() for p in weights(dtype, shapes or shapes_for(kind))]
    return cls(params, blocks=BLOCKS.get(kind, kind), fused=True, **{**hyper, **settings}), params


def filled(params):
    return [p for p in params if p.numel()]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_the_definition_to_rounding(rule, kind):
    optimizer, params = made(rule, kind, shapes=[s for s in shapes_for(kind) if 0 not in s])
    assert optimizer.backend == "fused"
    assert worst_step(optimizer, params, 2) < 20


@pytest.mark.parametrize("kind", ["channel", "layer", "neither"])
@pytest.mark.parametrize("rule", ["adamp", "sgdp"])
def test_steps_of_every_scale_equal_the_definition(rule, kind):
    """Moves nothing before the decision that a repair could not put right."""
    cls, settings = RULES[rule]
    settings = {**settings, "eps": 1e-30, "weight_decay": 0.0}
    for scale, lr, shapes in (
        (1.0, 1.0, [(6, 27)]),
        (1.0, 1e12, [(3, 300), (2, 9000)]),
        (1e-12, 1.0, [(2, 9000)]),
        (1e12, 1e-3, [(6, 27)]),
    ):
        for shape in shapes:
            p = (torch.randn(shape, dtype=torch.float64) * scale).float().requires_grad_()
            optimizer = cls([p], fused=True, **{**settings, "lr": lr})
            for _ in range(2):
                d = p.detach().double().requires_grad_()
                p.grad = gradient_passing(d.detach(), kind).float()
                d.grad = p.grad.double()
                twin = cls([d], foreach=False, **{**settings, "lr": lr})
                twin.state[d] = {k: v.double() for k, v in optimizer.state.get(p, {}).items() if k != DECISION}
                twin.step()
                if not d.detach().float().isfinite().all():
                    break
                optimizer.step()
                assert row_error(p, d) < (8 + shape[1] ** 0.5 / 8) * 2.0**-23, (scale, lr, shape)


# the interpreter cuts bfloat16 off where a device rounds to the nearest, which doubles the error
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 2.1), (torch.float16, 1.6), (torch.float32, 20)])
@pytest.mark.parametrize("layout", ["transposed", "channels-last"])
@pytest.mark.parametrize("kind", ["cosine", "fused"])
def test_every_dtype_and_layout(kind, layout, dtype, allowed):
    shapes = [(6, 3, 2, 2), (6, 7)]
    optimizer, params = made("adamp-nesterov", kind, dtype, shapes, layout)
    assert worst_step(optimizer, params, 1 if kind == "fused" else 2) < allowed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rule", "kind"), [("adamp", "cosine"), ("sgdp-nesterov", "layer")])
def test_weights_with_remainders_are_stepped_as_in_float32(rule, kind, dtype):
    shapes = [(6, 3, 3), (2, 1100)]
    optimizer, params = made(rule, kind, dtype, shapes, compensation="kahan")
    full = float32_copies(params)
    cls, hyper = RULES[rule]
    exact = cls(full, blocks=BLOCKS[kind], foreach=False, **hyper)
    for step in range(3):
        step_both(optimizer, exact, step)
    found = [master(p.detach(), optimizer.state[p]["remainder"]) for p in params]
    assert gap(found, [q.detach() for q in full]) < 2e-6


@pytest.mark.parametrize(("rule", "kind"), [("adamp", "cosine"), ("sgdp-nesterov", "cosine"), ("adamp", "channel")])
def test_twenty_steps_stay_with_the_definition(rule, kind):
    shapes = [(6, 3, 3), (2, 20)]
    optimizer, params = made(rule, kind, shapes=shapes)
    cls, hyper = RULES[rule]
    exact = weights(shapes=shapes)
    theirs = run(cls(exact, blocks=BLOCKS[kind], foreach=False, fused=None, **hyper), exact)
    assert gap([p.double() for p in run(optimizer, params)], theirs) < 1e-5


# every tile: whole rows of each length, slices, rows side by side; aligned or not
LONG = [(2, 48), (40, 16), (2, 1008), (2, 1500), (2, 1600), (2, 4112), (2, 4200), (2, 9001), (2, 8208), (17_000,)]


@pytest.mark.parametrize("kind", ["cosine", "channel", "layer", "transposed"])
@pytest.mark.parametrize("rule", ["adamp-nesterov", "sgdp"])
def test_rows_of_every_length(rule, kind):
    shapes = LONG if kind == "cosine" else [s for s in LONG if len(s) > 1]
    if kind == "transposed":  # rows side by side, a slice that begins within a slab, and one row of many slabs
        shapes = [(40, 16), (300, 33), (3, 7, 40), (300, 2, 40), (2, 1, 48)]
    optimizer, params = made(rule, kind, shapes=shapes)
    assert worst_step(optimizer, params, 1) < 200  # sums of 17 000 products


@pytest.mark.parametrize("kind", [*BLOCKS])
def test_pieces_cover_every_element_once(kind):
    for shape in [(6, 7), (6, 3, 2, 2), (10, 20_000), (20, 700, 2)]:
        w = torch.empty(shape)
        seen = form(w.shape, w.stride(), getattr(BLOCKS[kind], "dim", 0))
        for mode, offset, cut in runs(w.shape, seen, BLOCKS[kind]):
            made_run = Run(
                weight=0, group=0, storage=0, mode=mode, offset=offset, slabs=cut.slabs, stride=seen.rows * seen.cols,
                rows=cut.rows, cols=cut.cols,
            )  # fmt: skip
            table = Cut([made_run])
            pieces = [table.pieces[i : i + 4] for i in range(0, len(table.pieces), 4)]
            slices, span = table.runs[10], table.runs[11]
            if slices:
                assert (slices - 1) * span < cut.slabs * cut.cols <= slices * span
                assert len({(row, part) for _, row, part, _ in pieces}) == len(pieces)
                assert {part for _, _, part, _ in pieces} == set(range(slices))
            else:
                assert [row for _, row, *_ in pieces] == [sum(p[2] for p in pieces[:i]) for i in range(len(pieces))]
                assert sum(count for _, _, count, _ in pieces) == cut.rows


@pytest.mark.parametrize(("scale", "allowed"), [(1.0, 20), (1e-2, 40), (1e-4, 500)])
@pytest.mark.parametrize("rule", ["adamp-nesterov", "sgdp"])
def test_a_wrong_guess_is_repaired(rule, scale, allowed):
    optimizer, params = made(rule, "cosine", shapes=[(8, 3, 3, 3), (6, 7), (2, 9001), (4, 1, 3, 3), (2, 1600)])
    with torch.no_grad():
        for p in params:
            p.mul_(scale)

    def lie():
        for own in optimizer.state.values():
            own[DECISION].fill_(0 if own[DECISION] == 1 else 1)

    assert worst_step(optimizer, params, 2, lie) < allowed


def test_a_guess_that_cannot_be_undone_is_not_acted_on():
    optimizer, params = made("adamp", "cosine", lr=1.0, weight_decay=1.0, shapes=[(6, 7), (2, 9001)])
    assert worst_step(optimizer, params, 3) < 40  # undecayed rows get a factor of 0


def test_the_last_decision_is_kept_and_readable():
    optimizer, params = decided(lambda params: AdamP(params, fused=True))
    assert [int(optimizer.state[p][DECISION]) for p in params[:3]] == [1, 0, 2]
    assert DECISION not in optimizer.state[params[3]]


@pytest.mark.parametrize("poison", [0.0, -1e-40, 1e30, float("nan")])
@pytest.mark.parametrize("where", ["weight", "grad"])
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_one_odd_row_does_to_a_weight_what_the_definition_does(where, poison):
    for rule, kind in (("adamp", "cosine"), ("sgdp-nesterov", "cosine")):
        check_odd_row(rule, kind, [(8, 27), (2, 9001)], where, poison)


@pytest.mark.parametrize("rule", ["adamp", "sgdp-nesterov"])
@pytest.mark.parametrize("kind", ["layer", "sticky"])
def test_a_step_with_overflown_gradients_leaves_everything_as_it_is(rule, kind):
    optimizer, params = made(rule, kind, shapes=[(6, 7), (2, 9001)])
    run(optimizer, params, 2)
    before = copy.deepcopy(optimizer.state_dict()["state"]), [p.detach().clone() for p in params]
    params[0].grad[0, 0] = float("inf")
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(1.0)
    optimizer.step()
    assert str(optimizer.state_dict()["state"]) == str(before[0])
    assert all(torch.equal(p, q) for p, q in zip(params, before[1], strict=True))


@pytest.mark.parametrize("rule", ["adamp", "sgdp-nesterov"])
def test_scaled_gradients_make_the_same_step_and_are_not_written(rule):
    shapes = [(6, 7), (5,), (2, 9001)]
    ours, theirs = made(rule, "cosine", shapes=shapes), made(rule, "cosine", shapes=shapes)
    for step in range(2):
        give_gradients(ours[1], step)
        give_gradients(theirs[1], step)
        for p in ours[1]:
            p.grad *= 1024.0
        kept = [p.grad.clone() for p in ours[1]]
        ours[0].grad_scale, ours[0].found_inf = torch.tensor(1024.0), torch.tensor(0.0)
        ours[0].step()
        theirs[0].step()
        assert all(torch.equal(p.grad, g) for p, g in zip(ours[1], kept, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(ours[1], theirs[1], strict=True))


@pytest.mark.parametrize("overflown", [False, True])
def test_what_is_left_to_others_is_unscaled_and_skipped_too(overflown):
    params = [torch.ones(4, 3, dtype=dtype).requires_grad_() for dtype in (torch.float32, torch.float64)]
    twins = [p.detach().clone().requires_grad_() for p in params]
    ours, theirs = AdamP(params, lr=0.1), AdamP(twins, lr=0.1)
    assert ours.backend == "fused+foreach"
    for p, q in zip(params, twins, strict=True):
        q.grad = torch.linspace(-1, 1, 12, dtype=p.dtype).view(4, 3)
        p.grad = q.grad * 16
    ours.grad_scale, ours.found_inf = torch.tensor(16.0), torch.tensor(float(overflown))
    ours.step()
    if not overflown:
        theirs.step()
    for p, q in zip(params, twins, strict=True):
        assert torch.equal(p, q)
        assert ours.state[p]["step"] == (0 if overflown else 1)


def test_the_table_is_sent_again_only_when_addresses_or_settings_change(monkeypatch):
    optimizer, params = made("adamp", "cosine", shapes=[(6, 7), (5,)])
    give_gradients(params, 0)
    optimizer.step()
    sent = []
    monkeypatch.setattr(launch.Sent, "__init__", lambda *_, was=launch.Sent.__init__: (sent.append(1), was(*_))[1])
    optimizer.step()
    assert not sent
    old = [p.grad for p in params]  # kept alive, so that the new ones lie elsewhere
    give_gradients(params, 1)
    twin, twins = exact_twin(optimizer, params)
    optimizer.step()
    twin.step()
    assert sent == [1] and old
    assert gap([p.detach().double() for p in params], [q.detach() for q in twins]) < 1e-6
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    assert len(sent) == 2


@pytest.mark.parametrize("which", ["weight", "grad", "moment"])
def test_views_that_begin_anywhere_are_stepped_right(which):
    """As the gradients of DistributedDataParallel's buckets do: wide loads would fault there."""
    shapes = [(4, 48), (4, 1024), (2, 8208), (96,)]
    optimizer, params = made("adamp", "cosine", shapes=shapes)

    def moved(x):
        flat = torch.empty(x.numel() + 1)
        return flat[1:].view(x.shape).copy_(x)

    give_gradients(params, 0)
    if which == "weight":
        for p in params:
            p.data = moved(p.data)
    optimizer.step()
    for p in params if which == "moment" else ():
        optimizer.state[p]["exp_avg"] = moved(optimizer.state[p]["exp_avg"])
    give_gradients(params, 1)
    for p in params if which == "grad" else ():
        p.grad = moved(p.grad)
    part = optimizer._kernels._cuda._parts[0]
    twin, twins = exact_twin(optimizer, params)
    optimizer.step()
    twin.step()
    assert part is not optimizer._kernels._cuda._parts[0] or which != "moment"
    assert not any(launch._aligned([[x.data_ptr()] for x in (moved(params[0]),) * 8]))
    assert gap([p.detach().double() for p in params], [q.detach() for q in twins]) < 1e-6


@pytest.mark.parametrize("rule", ["adamp", "sgdp"])
def test_resuming_continues_bit_for_bit(rule):
    first, a = made(rule, "cosine", shapes=[(6, 7), (5,), (2, 300)])
    run(first, a, 4)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = type(first)(b, **{k: v for k, v in first.defaults.items()})
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(torch.equal(p, q) for p, q in zip(run(first, a, 3), run(second, b, 3), strict=True))


def test_sticky_weights_are_settled_as_the_definition_settles_them():
    shapes = [(6, 7), (3, 20)]
    optimizer, params = made("adamp", "sticky", shapes=shapes)
    assert optimizer.backend == "fused"
    exact = weights(shapes=shapes)
    twin = AdamP(exact, blocks="sticky", foreach=False, lr=1e-2, weight_decay=0.1)
    ours, theirs = run(optimizer, params, 23), run(twin, exact, 23)
    assert gap([p.double() for p in ours], theirs) < 1e-5
    for p, q in zip(params, exact, strict=True):
        assert torch.equal(optimizer.state[p]["votes"], twin.state[q]["votes"])


def test_groups_dtypes_and_rules_are_launched_apart_and_never_refused():
    kinds = [torch.float32, torch.bfloat16, torch.float64, torch.float32, torch.float32]
    params = [p.detach().to(k).requires_grad_() for p, k in zip(weights(shapes=[(6, 7)] * 5), kinds, strict=True)]
    params[3].data = torch.stack([params[3].data] * 2, -1)[..., 0]  # with gaps
    groups = [dict(params=params[:3]), dict(params=params[3:4], lr=0.1), dict(params=params[4:], nesterov=True)]
    optimizer = AdamP(groups, lr=1e-2)
    assert optimizer.backend == "fused+foreach"
    twins = []
    for group in optimizer.param_groups:
        exact = [p.detach().double().requires_grad_() for p in group["params"]]
        twins.append((AdamP(exact, foreach=False, lr=group["lr"], nesterov=group["nesterov"]), exact))
    for step in range(2):
        give_gradients(params, step)
        for p, q in zip(params, [q for _, exact in twins for q in exact], strict=True):
            q.grad = p.grad.double()
        optimizer.step()
        for twin, _ in twins:
            twin.step()
    for p, q in zip(params, [q for _, exact in twins for q in exact], strict=True):
        torch.testing.assert_close(p.double(), q, rtol=2e-2 if p.dtype == torch.bfloat16 else 1e-5, atol=1e-3)
    assert len(optimizer._kernels._cuda._parts) == 3
    assert all(own["step"] == 2 for own in optimizer.state.values())


@pytest.mark.parametrize("name", [AdamP, SGDP])
def test_a_schedule_on_the_device_is_read_there(name, monkeypatch):
    monkeypatch.setattr(fused_cuda, "_on_device", lambda x: isinstance(x, torch.Tensor))
    found = []
    for to in (float, partial(torch.tensor, dtype=torch.float64)):
        params = weights(torch.float32, [(6, 7), (5,)])
        optimizer = name(params, lr=to(1e-2), weight_decay=to(0.5), capturable=True, fused=True)
        group = optimizer.param_groups[0]
        for step in range(3):
            for key, first in (("lr", 1e-2), ("weight_decay", 0.5)):
                if to is float:
                    group[key] = first / (step + 1)
                else:
                    group[key].fill_(first / (step + 1))
            give_gradients(params, step)
            optimizer.step()
        found.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*found, strict=True))


def test_a_capture_keeps_what_it_reads_and_leaves_nothing_to_later_steps(monkeypatch):
    optimizer, params = made("adamp", "cosine", shapes=[(6, 7)], capturable=True)
    monkeypatch.setattr(launch, "capturing", lambda device: True)
    give_gradients(params, 0)
    with pytest.raises(RuntimeError, match="take one step before the capture"):
        optimizer.step()
    monkeypatch.setattr(launch, "capturing", lambda device: False)
    optimizer.step()
    made_launch = optimizer._kernels._cuda._parts[0].launch
    eager, old = made_launch._last[1], params[0].grad
    monkeypatch.setattr(launch, "capturing", lambda device: True)
    give_gradients(params, 1)
    optimizer.step()
    captured = made_launch._held[0]
    assert captured is not eager and made_launch._last[1] is eager and old is not None
    assert optimizer._kernels._cuda._held == optimizer._kernels._cuda._parts
    monkeypatch.setattr(launch, "capturing", lambda device: False)
    optimizer.step()  # the same addresses, but a graph writes its table only when it is replayed
    assert made_launch._last[1] not in (eager, captured)


def test_the_state_moves_to_other_backends_and_back():
    a, exact = weights(torch.float32, [(6, 7), (5,)]), weights(shapes=[(6, 7), (5,)])
    optimizer, twin = AdamP(a, lr=1e-2, fused=True), AdamP(exact, lr=1e-2, foreach=False)
    for step in range(6):
        for group in optimizer.param_groups:
            group.update(fused=step % 2 == 0, foreach=step % 2 == 1)
        for params, stepped in ((a, optimizer), (exact, twin)):
            give_gradients(params, step)
            stepped.step()
    assert gap([p.detach().double() for p in a], [p.detach() for p in exact]) < 1e-6


def test_a_step_is_an_in_place_change_to_autograd():
    w = torch.randn(3, 4, requires_grad=True)
    loss = (w * w).sum()
    w.grad = torch.ones_like(w)
    AdamP([w], fused=True, blocks=Blocks()).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()

"""Every two features together: a step equals the float64 definition, or is refused in words where the docs refuse it.

`FACTORS` are the documented ways to step a weight. `CASES` holds every pair of their values that may occur together;
`REFUSED` every pair that may not, with what the error must say. A pair is in one of the two, and nothing is skipped.
"""

import contextlib
import re

import pytest
import torch

from support.pairs import completed, pairs_in, pairs_of, pairwise
from support.step_matrix import BLOCKS, RULES, fits
from support.weights import tangent
from tangential.kernels.cpu import why_missing

FACTORS = {
    "rule": [*RULES],
    "backend": ["default", "fused", "foreach", "eager"],
    "compiled": ["no", "yes"],
    "lr": ["float", "0-d", "one-element"],
    "capturable": ["no", "yes"],
    "maximize": ["no", "yes"],
    "differentiable": ["no", "yes"],
    "dtype": ["float32", "float64", "bfloat16", "float16", "complex64"],
    "layout": ["contiguous", "channels-last", "transposed", "gaps"],
    "lazy": ["none", "negative", "conjugate"],
    "device": ["cpu", "meta"],
    "blocks": ["cosine", "sticky", "channel", "layer", "none"],
}
BACKENDS = {"default": {}, "fused": dict(fused=True), "foreach": dict(foreach=True), "eager": dict(foreach=False)}
REFUSALS = [
    (dict(backend="fused", dtype="float64"), "fused=True, but a parameter is torch.float64.*leave it None"),
    (dict(backend="fused", dtype="complex64"), "fused=True, but a parameter is torch.complex64.*leave it None"),
    (dict(backend="fused", differentiable="yes"), "fused=True with differentiable=True.*use fused=False"),
    (dict(backend="foreach", differentiable="yes"), "foreach=True with differentiable=True.*use foreach=False"),
    (dict(backend="fused", lazy="conjugate"), "fused=True, but a parameter is torch.complex64.*leave it None"),
]
"""What the docs of `fused` and `differentiable` do not allow, and what the error says."""

SHAPES = [(4, 3, 2, 3), (6, 7), (5, 8), (7,), ()]
STEPS = 3
# error of a stored weight after the steps, relative to its size and to how far it moved
ROUNDING = {"float64": 1e-13, "float32": 5e-6, "bfloat16": STEPS * 2.0**-8, "float16": STEPS * 2.0**-11}
ROUNDING["complex64"] = ROUNDING["float32"]


def exists(case):
    """Whether there is such a thing: only complex gradients can be conjugated."""
    return case.get("lazy") != "conjugate" or case.get("dtype", "complex64") == "complex64"


def refused(case):
    """What the error must say if a case holds settings that exclude each other, else None."""
    return next((words for pair, words in REFUSALS if pair.items() <= case.items()), None)


CASES = pairwise(FACTORS, lambda case: exists(case) and refused(case) is None)
WITH_KERNEL = pytest.mark.skipif(why_missing() is not None, reason="no kernel here")
STEPPED = [
    pytest.param(
        case,
        id="-".join(case.values()),
        marks=[pytest.mark.slow] * (case["compiled"] == "yes") + [WITH_KERNEL] * (case["backend"] == "fused"),
    )
    for case in CASES
]
REFUSED = [pair for pair in pairs_of(FACTORS) if refused(pair) is not None]


def test_every_pair_is_stepped_or_refused_or_does_not_exist():
    occurring = set().union(*map(pairs_in, CASES))
    for pair in pairs_of(FACTORS):
        kinds = (frozenset(pair.items()) in occurring, refused(pair) is not None, not exists(pair))
        assert sum(kinds) == 1, pair
    assert len(CASES) <= 150


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (2, 2, 2), (5, 4, 3, 2), (3, 3, 3, 3), (2, 5, 2, 4, 3, 2, 1)])
def test_pairwise_cases_hold_every_possible_pair(sizes):
    factors = {str(i): "vwxyz"[:n] for i, n in enumerate(sizes)}
    for possible in (lambda case: True, lambda case: case.get("0") != "w" or case.get("1") != "w"):
        cases = pairwise(factors, possible)
        expected = {frozenset(pair.items()) for pair in pairs_of(factors) if possible(pair)}
        assert set().union(*map(pairs_in, cases)) == expected
        assert all(case.keys() == factors.keys() for case in cases)
        assert cases == pairwise(factors, possible)


def test_a_pair_that_no_case_can_hold_is_named():
    with pytest.raises(ValueError, match=r"no possible case holds \{'a': 'x', 'b': 'y'\}"):
        pairwise({"a": "x", "b": "xy", "c": "x"}, lambda case: case != {"a": "x", "b": "y", "c": "x"})


def wide(dtype):
    return torch.complex128 if dtype.is_complex else torch.float64


def laid(x, layout):
    """The same values, in memory as a weight of this layout lies."""
    if layout == "gaps" and x.ndim:
        return x.repeat_interleave(2, -1)[..., ::2]
    if layout == "transposed" and x.ndim > 1:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "channels-last" and x.ndim == 4:
        return x.to(memory_format=torch.channels_last)
    return x.clone(memory_format=torch.contiguous_format)


def lazily(g, lazy):
    """The same values, with a bit that says how the memory is to be read."""
    if lazy == "negative":
        return torch._neg_view(-g)
    return g.conj().resolve_conj().conj() if lazy == "conjugate" else g


def gradients(twins, step):
    """Gradients by which the paper's test finds channels, nothing and a layer, each far from its threshold."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for i, w in enumerate(torch.view_as_real(q.detach()) if q.is_complex() else q.detach() for q in twins):
        x = torch.randn(w.shape, generator=generator, dtype=torch.float64)
        if i == 0:
            x = tangent(w, x)
        elif i == 2:
            rows = torch.linspace(-1, 1, len(w), dtype=torch.float64).view(-1, *[1] * (w.ndim - 1))
            x = tangent(w.flatten()[None], (x + rows * w).flatten()[None]).view_as(w)
        else:
            x = x + w
        found.append(torch.view_as_complex(x) if twins[i].is_complex() else x)
    return found


def starting(case):
    """Weights of the case's dtype and layout, and the leaves that they come from."""
    dtype = getattr(torch, case["dtype"])
    shapes = [s for s in SHAPES if fits(case["blocks"], s)]
    generator = torch.Generator().manual_seed(7)
    values = [torch.randn(s, generator=generator, dtype=wide(dtype)).to(dtype) for s in shapes]
    leaves = [laid(x, case["layout"]).requires_grad_() for x in values]
    if case["differentiable"] == "no":
        return leaves, leaves
    return [laid(x.clone(), case["layout"]) for x in leaves], leaves


def settings_of(case):
    lr = {"float": 0.1, "0-d": torch.tensor(0.1), "one-element": torch.tensor([0.1])}[case["lr"]]
    switches = {name: case[name] == "yes" for name in ("capturable", "maximize", "differentiable")}
    return dict(lr=lr, blocks=BLOCKS.get(case["blocks"], case["blocks"]), **switches, **BACKENDS[case["backend"]])


def made(case):
    cls, hyper = RULES[case["rule"]]
    params, leaves = starting(case)
    return cls(params, **{**hyper, **settings_of(case)}), params, leaves


def defined(case, params):
    """The definition: one plain tensor at a time in float64, and descent."""
    cls, hyper = RULES[case["rule"]]
    twins = [p.detach().to(wide(p.dtype), memory_format=torch.contiguous_format, copy=True) for p in params]
    settings = settings_of(case)
    lr = float(settings["lr"])
    twin = cls([q.requires_grad_() for q in twins], **{**hyper, "lr": lr, "blocks": settings["blocks"]}, foreach=False)
    return twin, twins


compiling = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a"
)


@compiling
@pytest.mark.parametrize("case", STEPPED)
def test_pairs_step_as_defined(case):
    check_steps(case)


@compiling
@pytest.mark.slow
@pytest.mark.parametrize("layout", FACTORS["layout"])
def test_compiled_steps_take_every_layout_with_a_tensor_as_rate(layout):
    fixed = {"compiled": "yes", "lr": "0-d", "blocks": "channel", "backend": "foreach"}
    check_steps(completed({**fixed, "layout": layout}, FACTORS))


def check_steps(case):
    """Some steps of a case beside the definition: weights, moments, step counts, gradients, and what autograd finds."""
    optimizer, params, leaves = made(case)
    twin, twins = defined(case, params)
    starts = [q.detach().clone() for q in twins]
    step = optimizer.step
    if case["compiled"] == "yes":
        torch._dynamo.reset()
        step = torch.compile(step, backend="eager", fullgraph=True)
    sign = -1 if case["maximize"] == "yes" else 1
    for number in range(STEPS):
        for p, q, x in zip(params, twins, gradients(twins, number), strict=True):
            p.grad = lazily(laid(x.to(p.dtype), case["layout"]), case["lazy"])
            q.grad = sign * x.to(p.dtype).to(q.dtype)
        given = [p.grad.clone() for p in params]
        with torch.device("meta") if case["device"] == "meta" else contextlib.nullcontext():
            step()
        twin.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params, given, strict=True)), "a gradient was written"
    for p, q, start in zip(params, twins, starts, strict=True):
        rounding = ROUNDING[case["dtype"]]
        close(p, q, rounding * (q.abs() + (q - start).abs().max()))
        for key in optimizer._moments:
            exact = twin.state[q][key]
            close(optimizer.state[p][key], exact, min(rounding, ROUNDING["float32"]) * exact.abs().max())
        assert float(optimizer.state[p]["step"]) == STEPS
    if case["differentiable"] == "yes":
        found = torch.autograd.grad(sum(p.abs().sum() for p in params), leaves)
        assert all(g.isfinite().all() and g.any() for g in found)


def close(ours, exact, bound):
    assert ours.device.type == "cpu"
    error = (ours.detach().to(exact.dtype) - exact.detach()).abs()
    assert (error <= bound).all(), f"{float((error / bound).max()):.3g} times the rounding"


@WITH_KERNEL
def test_the_gradients_are_of_every_kind_to_the_papers_test():
    case = completed({"backend": "fused", "blocks": "cosine"}, FACTORS)
    optimizer, params, _ = made(case)
    for number in range(STEPS):
        for p, x in zip(params, gradients([p.double() for p in params], number), strict=True):
            p.grad = x.float()
        optimizer.step()
        assert [int(optimizer.state[p]["projected"]) for p in params[:3]] == [1, 0, 2]


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: "-".join(pair.values()))
def test_pairs_that_exclude_each_other_are_refused_in_words(pair):
    with pytest.raises(ValueError, match=refused(pair)):
        made(completed(pair, FACTORS, exists))


def test_two_backends_at_once_are_refused_in_words():
    cls, hyper = RULES["adamp"]
    with pytest.raises(ValueError, match=re.escape("foreach=True with fused=True: ask for one")):
        cls([torch.ones(2, 3).requires_grad_()], foreach=True, fused=True, **hyper)

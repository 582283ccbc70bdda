"""Laws of the definition itself, on every kind of array it runs on."""

import numpy as np
import pytest
import torch

from tangential.algorithm import Adam, Projection, Reduction, Sgd, cosine_views, radial, view_radial
from tangential.backends.foreach import TensorList

jnp = pytest.importorskip("jax.numpy")

KINDS = {
    "numpy": (np.asarray, np.where, np.asarray),
    "torch": (lambda x: torch.from_numpy(np.array(x)), torch.where, lambda x: x.numpy()),
    "jax": (jnp.asarray, jnp.where, np.asarray),
}
RULES = [
    Sgd(momentum=0.9),
    Sgd(momentum=0.9, dampening=0.3, nesterov=True),
    Adam(t=3.0, betas=(0.9, 0.999), eps=1e-8),
    Adam(t=3.0, betas=(0.9, 0.999), eps=1e-8, nesterov=True),
]
HOW = Projection(lr=0.1, decay=0.2, delta=0.1, eps=1e-8, wd_ratio=0.1)


def arrays(*shape, n=4, dtype=np.float64):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(dtype) for _ in range(n)]


def direction(rule, g, m, v):
    moments = (m, v**2)[: len(rule.names)]
    return rule.direction(g, *rule.advance(g, *moments))


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rule_is_the_same_on_every_kind_of_array(rule, kind):
    make, _, back = KINDS[kind]
    g, m, v = arrays(4, 6, n=3, dtype=np.float32)
    np.testing.assert_allclose(back(direction(rule, make(g), make(m), make(v))), direction(rule, g, m, v), rtol=2e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rule_is_the_same_on_a_list_of_tensors(rule):
    g, m, v = (torch.from_numpy(x) for x in arrays(4, 6, n=3))
    lists = [TensorList([x[:1], x[1:]]) for x in (g, m, v.square())]
    new = rule.advance(lists[0], *lists[1 : 1 + len(rule.names)])
    found = torch.cat(rule.direction(lists[0], *new).tensors)
    torch.testing.assert_close(found, direction(rule, g, m, v), rtol=1e-14, atol=0)


@pytest.mark.parametrize("t", [1.0, 2.0, 1000.0])
def test_step_count_as_tensor_corrects_bias_as_a_number_does(t):
    g, m, v = (torch.from_numpy(x) for x in arrays(4, 6, n=3))
    settings = dict(betas=(0.9, 0.999), eps=1e-8)
    by_number = direction(Adam(t=t, **settings), g, m, v)
    by_tensor = direction(Adam(t=torch.tensor(t, dtype=torch.float64), **settings), g, m, v)
    torch.testing.assert_close(by_tensor, by_number, rtol=1e-13, atol=0)


def gate(w, g, u, kind="numpy", projection=HOW):
    make, where, back = KINDS[kind]
    reduction = Reduction(total=lambda x: x.sum(), largest=lambda x: x.max(), where=where)
    sums = tuple(make((a * b).sum(1)) for a, b in ((w, w), (g, g), (w, g), (w, u)))
    by_channel, by_layer = cosine_views(sums, w.shape[1], w.shape[0], projection, reduction)
    assert not (by_channel & by_layer)
    ends = (sums[0], sums[3])
    found = view_radial(ends, tuple(map(reduction.total, ends)), by_channel, projection, where)
    return back(found), bool(by_channel | by_layer)


def tangent(w, x):
    return x - w * ((w * x).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_projection_leaves_no_radial_part(kind):
    w, g, u = arrays(4, 50, n=3)
    found, projected = gate(w, tangent(w, g), u, kind)
    left = u - found[:, None] * w
    assert projected
    np.testing.assert_allclose((left * w).sum(1), 0, atol=1e-4 if kind == "jax" else 1e-6)


def test_projected_norm_grows_by_the_tangential_step_alone():
    w, g, u = arrays(4, 50, n=3)
    found, _ = gate(w, tangent(w, g), u)
    projection = Projection(lr=0.1, decay=0.0, delta=0.1, eps=0.0, wd_ratio=0.1)
    new = projection.keep(found)[:, None] * w - projection.lr * u
    step = 0.1 * (u - found[:, None] * w)
    np.testing.assert_allclose((new**2).sum(1), (w**2).sum(1) + (step**2).sum(1), rtol=1e-7)


def test_one_radial_channel_vetoes_the_channel_view():
    w, g, u = arrays(4, 50, n=3)
    g = tangent(w, g)
    g[2] += 5 * w[2]
    assert not gate(w, g, u)[1]


def test_layer_view_projects_the_whole_weight_by_one_number():
    w, g, u = arrays(4, 50, n=3)
    g = g - w * ((w * g).sum() / (w * w).sum())  # orthogonal as a whole, not by channel
    found, projected = gate(w, g, u)
    assert projected
    np.testing.assert_allclose(found, np.full(4, (w * u).sum() / (w * w).sum()), rtol=1e-6)


def test_radial_gradient_is_not_projected():
    w, _, u = arrays(4, 50, n=3)
    assert not gate(w, 3 * w, u)[1]


def test_zero_gradient_passes_the_test():
    w, g, u = arrays(4, 50, n=3)
    assert gate(w, 0 * g, u)[1]


@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-30])
def test_zero_weight_has_no_radial_direction(eps):
    found = radial(np.zeros(3), np.zeros(3), eps=eps, where=np.where)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_overflown_sums_remove_nothing_and_do_not_fire():
    w, g, u = arrays(4, 50, n=3, dtype=np.float32)
    found, projected = gate(np.float32(1e30) * w, g, u)
    assert not projected
    np.testing.assert_array_equal(found, 0)


def test_decay_of_projected_weights_is_reduced():
    assert HOW.keep(0.0) == pytest.approx(1 - 0.1 * 0.2 * 0.1)
    assert HOW.plain == pytest.approx(1 - 0.1 * 0.2)

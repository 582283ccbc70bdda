"""Mutated state dicts: each is refused with nothing changed, or loaded so that the next steps are the definition's.

Sixty examples by default. `TANGENTIAL_FUZZ=20000 pytest tests/optimizers/test_state_fuzz.py` tries as many; a
failure prints the blob that repeats it.
"""

import copy
import os
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.optimizer_makers import MAKERS, MOMENTS
from support.weights import give_gradients, weights
from tangential import Blocks
from tangential.backends.remainders import REMAINDER, master

EXAMPLES = int(os.environ.get("TANGENTIAL_FUZZ", "60"))
SHAPES = [(4, 6), (6, 5), (3,), (2, 3, 2)]
KINDS = [Blocks(), "cosine", None, "sticky"]
"""The blocks of each of the four weights, which have a group each."""

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
numbers = st.one_of(
    st.integers(-3, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 0.5, 1.0, 1e-30, 1e30, 1e300, 10**400, True, None, "0.1", [1.0], {}, b"1"]),
)
shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]
)


@st.composite
def tensors(draw, like=None):
    """A tensor of any shape, dtype, layout and memory, or one made of another."""
    made = torch.full(draw(shapes), draw(st.sampled_from([0.0, 0.25, -1.0, 3.0, float("nan"), float("inf")])))
    if like is not None and isinstance(like, torch.Tensor) and draw(st.booleans()):
        made = like.clone()
    changes = [
        lambda x: x.t() if x.ndim == 2 else x,
        lambda x: x.reshape(-1),
        lambda x: x[:1] if x.ndim else x,
        lambda x: x[..., None].expand(*x.shape, 2),
        lambda x: x.flatten()[0].expand(x.shape) if x.numel() else x,
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: torch.complex(x * 0, -x).conj().imag if x.dtype in (torch.float32, torch.float64) else x,
        lambda x: x.to_sparse() if x.ndim and x.layout == torch.strided and not x.is_meta else x,
        lambda x: x.to("meta"),
        lambda x: x.requires_grad_() if x.is_floating_point() else x,
        lambda x: x.abs() if not x.is_complex() and x.dtype != torch.bool else x,
    ]
    if draw(st.booleans()):
        made = made.to(draw(dtypes))
    for change in draw(st.lists(st.sampled_from(changes), max_size=2)):
        if made.layout == torch.strided:
            made = change(made)
    return made


@dataclass
class Case:
    """An optimizer that has stepped, and its state dict to mutate."""

    name: str
    backend: dict
    steps: int
    dtype: torch.dtype
    params: list = field(default_factory=list)

    def make(self, named):
        self.params = weights(self.dtype, SHAPES)
        pairs = [(str(i), p) if named else p for i, p in enumerate(self.params)]
        return MAKERS[self.name](
            [dict(params=[p], blocks=b) for p, b in zip(pairs, KINDS, strict=True)], **self.backend
        )


cases = st.builds(
    Case,
    name=st.sampled_from(sorted(MAKERS)),
    backend=st.sampled_from([{}, dict(foreach=True), dict(foreach=False), dict(capturable=True, fused=False)]),
    steps=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.bfloat16]),
)


def mutate_state(draw, saved):
    state = saved["state"]
    if not state or draw(st.integers(0, 9)) == 0:
        state[draw(st.sampled_from([0, 1, 7, -1, "x", None, (1,)]))] = draw(
            st.sampled_from([{}, None, [], {"step": 1}, 3])
        )
        return
    own = state[draw(st.sampled_from(list(state)))]
    if not isinstance(own, dict):
        return
    key = draw(
        st.sampled_from(
            [*own, "step", "projected", "votes", REMAINDER, "exp_avg", "momentum_buffer", "momentum", "max_exp_avg_sq"]
        )
    )
    if draw(st.integers(0, 4)) == 0:
        own.pop(key, None)
    else:
        old = own.get(key)
        own[key] = draw(st.one_of(tensors(old), numbers))


def mutate_groups(draw, saved):
    groups = saved["param_groups"]
    action = draw(st.sampled_from(["value", "value", "value", "drop", "order", "params", "names", "remove", "repeat"]))
    at = draw(st.integers(0, len(groups) - 1)) if groups else 0
    if not groups or not isinstance(groups[at], dict):
        return
    if action == "value":
        key = draw(st.sampled_from([*groups[at], "amsgrad", "momentum", "betas", "note"]))
        blocks = st.sampled_from(
            [
                "cosine",
                "sticky",
                None,
                (0, 1, None),
                (0, None, None),
                (1, 2, None),
                (0, 1, ((0, 2, 1),)),
                Blocks(size=2),
                "x",
                (0,),
                (9, 1, None),
            ]
        )
        groups[at][key] = draw(st.one_of(numbers, blocks, tensors(), st.tuples(numbers, numbers), st.booleans()))
    elif action == "drop":
        groups[at].pop(draw(st.sampled_from(sorted(groups[at]))))
    elif action == "order":
        saved["param_groups"] = draw(st.permutations(groups))
    elif action == "params":
        groups[at]["params"] = draw(st.sampled_from([[], [0], [1], [0, 1], [9], ["a"], None, 3, [[0]], [None]]))
    elif action == "names":
        groups[at]["param_names"] = draw(st.sampled_from([["0"], ["1"], ["2"], ["z"], [], None, ["0", "1"], 3, [1]]))
    elif action == "remove":
        del groups[at]
    else:
        groups.append(groups[at])


def snapshot(optimizer, params):
    """Everything a load could change: values, and which objects they are."""
    entries = {(id(p), k): (id(v), v.clone()) for p, own in optimizer.state.items() for k, v in own.items()}
    return (
        str(optimizer.state_dict()),
        [(id(group), {k: id(v) for k, v in group.items()}) for group in optimizer.param_groups],
        {key: (at, value.tolist()) for key, (at, value) in entries.items()},
        [p.tolist() for p in params],
    )


def value(optimizer, p):
    """A weight with its remainder, in float64."""
    rest = optimizer.state.get(p, {}).get(REMAINDER)
    return (p.detach() if rest is None else master(p.detach(), rest)).double()


def definition(optimizer, params, name):
    """The same optimizer in float64, one tensor at a time, which the other backends are compared with."""
    twins = [value(optimizer, p).requires_grad_() for p in params]
    kept = optimizer.defaults.keys() - {"foreach", "fused", "capturable", "differentiable"}
    groups = [{k: group[k] for k in kept} for group in optimizer.param_groups]
    other = MAKERS[name]([{**g, "params": [p], "foreach": False} for g, p in zip(groups, twins, strict=True)])
    for p, q in zip(params, twins, strict=True):
        own = {k: v.clone() for k, v in optimizer.state.get(p, {}).items() if isinstance(v, torch.Tensor)}
        if own:
            other.state[q] = {k: v.double() if k in MOMENTS[name] else v.cpu() for k, v in own.items()}
    return other, twins


def exact(optimizer, params):
    """Whether the weights are float32, with their remainders: a group may have turned those off."""
    return all(p.dtype == torch.float32 or REMAINDER in optimizer.state.get(p, {}) for p in params)


def check_step(optimizer, params, name):
    """Two steps from what was loaded are those of the definition, and finite."""
    other, twins = definition(optimizer, params, name)
    for step in range(2):
        give_gradients(params, step)
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.double()
        before = [q.detach().clone() for q in twins]
        optimizer.step()
        other.step()
        after = [value(optimizer, p) for p in params]
        for p, q, old in zip(after, [q.detach() for q in twins], before, strict=True):
            moved = max(float((q - old).abs().max()), float(q.abs().max()), 1e-30)
            if torch.isfinite(q).all() and moved < 1e30:
                assert torch.isfinite(p).all()
                assert float((p - q).abs().max()) <= (1e-3 if exact(optimizer, params) else 2e-2) * moved
                q.copy_(p)


@fuzz
@given(case=cases, named=st.booleans(), data=st.data())
def test_mutated_state_is_refused_whole_or_continues_as_defined(case, named, data):
    first = case.make(named)
    params = case.params
    for step in range(case.steps):
        give_gradients(params, step)
        first.step()
    saved = copy.deepcopy(first.state_dict())
    for _ in range(data.draw(st.integers(1, 3))):
        data.draw(st.sampled_from([mutate_state, mutate_state, mutate_groups]))(data.draw, saved)
    optimizer = case.make(named)
    params = case.params
    give_gradients(params, 0)
    optimizer.step()
    before = snapshot(optimizer, params)
    try:
        optimizer.load_state_dict(saved)
    except (TypeError, ValueError) as error:
        assert str(error)
        assert snapshot(optimizer, params) == before
    check_step(optimizer, params, case.name)
